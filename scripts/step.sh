#!/usr/bin/env bash
# step MESSAGE COMMAND...: runs a long command behind one line that counts the seconds. Its output
# shows only if it fails. Source this file for the function, or run it as a program.

step() {
    local message=$1 log pid status=0
    shift
    log=$(mktemp)
    SECONDS=0
    # A process group of its own: when this ends, so does all that the command started.
    set -m
    (
        set +m
        "$@"
    ) >"$log" 2>&1 </dev/null &
    pid=$!
    set +m
    trap 'kill -- -"$pid" 2>/dev/null; wait "$pid"; rm -f "$log"; exit 130' INT TERM HUP
    if [ -t 1 ]; then
        while kill -0 "$pid" 2>/dev/null; do
            printf '\r%s ... %d s' "$message" "$SECONDS"
            sleep 0.2
        done
        printf '\r'
    else
        printf '%s ...\n' "$message"
    fi
    wait "$pid" || status=$?
    trap - INT TERM HUP
    if [ "$status" -eq 0 ]; then
        printf '%s ... done in %d s\n' "$message" "$SECONDS"
    else
        printf '%s ... failed after %d s:\n' "$message" "$SECONDS"
        tail -n 40 "$log"
    fi
    rm -f "$log"
    return "$status"
}

[ "${BASH_SOURCE[0]}" != "$0" ] || step "$@"
