package miner

import (
	"bytes"
	"fmt"
	"sort"
	"strconv"
)

// present returns the fields that are not empty.
func present(fields map[string]interface{}) map[string]interface{} {
	for name, value := range fields {
		switch value := value.(type) {
		case string:
			if value == "" {
				delete(fields, name)
			}
		case int:
			if value == 0 {
				delete(fields, name)
			}
		case []interface{}:
			if len(value) == 0 {
				delete(fields, name)
			}
		}
	}
	return fields
}

// canonical returns JSON as RFC 8785 has it, of objects with names in ASCII, lists, texts and integers.
// encoding/json escapes other characters than that does.
func canonical(value interface{}) []byte {
	var out bytes.Buffer
	write(&out, value)
	return out.Bytes()
}

func write(out *bytes.Buffer, value interface{}) {
	switch value := value.(type) {
	case int:
		out.WriteString(strconv.Itoa(value))
	case string:
		writeText(out, value)
	case []interface{}:
		out.WriteByte('[')
		for at, item := range value {
			if at > 0 {
				out.WriteByte(',')
			}
			write(out, item)
		}
		out.WriteByte(']')
	case map[string]interface{}:
		names := make([]string, 0, len(value))
		for name := range value {
			names = append(names, name)
		}
		sort.Strings(names)
		out.WriteByte('{')
		for at, name := range names {
			if at > 0 {
				out.WriteByte(',')
			}
			writeText(out, name)
			out.WriteByte(':')
			write(out, value[name])
		}
		out.WriteByte('}')
	default:
		panic(fmt.Sprintf("miner: no canonical form of %T", value))
	}
}

var escapes = map[rune]string{'"': `\"`, '\\': `\\`, '\b': `\b`, '\f': `\f`, '\n': `\n`, '\r': `\r`, '\t': `\t`}

func writeText(out *bytes.Buffer, text string) {
	out.WriteByte('"')
	for _, character := range text {
		if escape, ok := escapes[character]; ok {
			out.WriteString(escape)
		} else if character < ' ' {
			fmt.Fprintf(out, `\u%04x`, character)
		} else {
			out.WriteRune(character)
		}
	}
	out.WriteByte('"')
}
