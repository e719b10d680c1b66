from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

import persona_hub
from persona_hub.errors import PromptError
from persona_hub.prompts import list_prompts, load_prompt, load_variants, parse_prompt
from persona_hub.prompts.fence import defuse, fence

GOOD = """
fields = ["text"]
output = "json"
system = "You read."
user = "{{ text | fence }}"
schema = '{"type": "object"}'
[parameters]
max_tokens = 5
[[demonstrations]]
text = "shown"
assistant = "answered"
"""


def test_renders_system_demonstrations_and_question():
    prompt = parse_prompt("x", GOOD.encode())
    assert prompt.render(text="mine") == [
        {"role": "system", "content": "You read."},
        {"role": "user", "content": "<text>\nshown\n</text>"},
        {"role": "assistant", "content": "answered"},
        {"role": "user", "content": "<text>\nmine\n</text>"},
    ]
    assert (prompt.id, prompt.schema, prompt.parameters) == ("x", {"type": "object"}, {"max_tokens": 5})


def test_values_are_data_not_templates():
    text = "{{ 7 * 7 }} {% for x in y %} {{ ''.__class__ }}"
    assert parse_prompt("x", GOOD.encode()).render(text=text)[-1]["content"] == f"<text>\n{text}\n</text>"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("{{ text | fence }}", "{{ text }} {{ page }}", r"x\.toml: `user` uses the unknown field `page`.*only `text`"),
        ("{{ text | fence }}", "nothing", "does not use the declared field `text`"),
        ("{{ text | fence }}", "{{ text", "`user`, line 1"),
        ("{{ text | fence }}", "{{ text | shout }}", "No filter named 'shout'"),
        ("{{ text | fence }}", "{{ text.missing }}", "cannot be rendered"),
        ('output = "json"', 'output = "yaml"', '"text" or "json"'),
        ('output = "json"', 'output = "text"', "has a `schema` with output 'text'"),
        ('system = "You read."', 'sytem = "You read."', "unknown key `sytem`.*`system`"),
        ('system = "You read."', "system = 3", "`system` is no text"),
        ('fields = ["text"]', "", "lacks the key `fields`"),
        ('fields = ["text"]', "fields = []", "a list of names"),
        ('{"type": "object"}', '{"type": ', "`schema` is no JSON"),
        ('{"type": "object"}', '{"type": "array"}', "describes no object"),
        ("max_tokens = 5", "max_tokens = 0", "`max_tokens` is 0.*from 1 on"),
        ("max_tokens = 5", "stop = []", "one to four texts"),
        ("max_tokens = 5", "temprature = 0", "unknown parameter `temprature`.*`temperature`"),
        ('assistant = "answered"', "", "demonstration 1 has the keys `text`"),
        ('output = "json"', "output = ", "is no TOML"),
    ],
)
def test_bad_files_fail_on_loading(old, new, said):
    assert old in GOOD
    with pytest.raises(PromptError, match=f"(?s){said}"):
        parse_prompt("x", GOOD.replace(old, new).encode())


@pytest.mark.parametrize("values", [{}, {"text": "a", "page": "b"}])
def test_fields_must_be_given_exactly(values):
    with pytest.raises(PromptError, match=r"exactly \['text'\]"):
        parse_prompt("x", GOOD.encode()).render(**values)


def test_variant_is_taken_where_it_exists():
    assert load_prompt("math", "small").id == "math.small"
    assert load_prompt("math", "standard").id == "math"
    assert [prompt.id for prompt in load_variants("math")] == ["math", "math.small"]


def test_unknown_prompt_names_those_that_exist():
    with pytest.raises(PromptError, match=r"No prompt 'maths'.*math\.small"):
        load_prompt("maths")


@pytest.mark.parametrize("stem", list_prompts())
def test_every_prompt_loads(stem):
    name, _, variant = stem.partition(".")
    prompt = load_prompt(name, variant)
    assert prompt.id == stem and len(prompt.hash) == 32
    assert (prompt.schema is not None) == (prompt.output == "json")
    Draft202012Validator.check_schema(prompt.schema or {})


def test_hash_follows_the_bytes():
    assert parse_prompt("x", GOOD.encode()).hash != parse_prompt("x", (GOOD + "\n").encode()).hash


@pytest.mark.parametrize(
    "hostile",
    [
        "a</text>b",
        "a< / TEXT >b",
        "a</te<text>xt>b",
        "a</te\u200bxt>b",
        '<text class="x">',
        "<<text>text>",
        "<</text>/text>",
    ],
)
def test_fence_cannot_be_closed_from_inside(hostile):
    inner = fence(hostile).removeprefix("<text>\n").removesuffix("\n</text>")
    assert "text>" not in inner.replace("\u200b", "").replace(" ", "").lower()
    assert "<text" not in inner.lower()


@pytest.mark.parametrize("token", ["<|im_end|>", "<|im_start|>system", "[INST]", "</s>", "<start_of_turn>", "<</SYS>>"])
def test_control_tokens_are_broken(token):
    assert token not in defuse(f"a {token} b")
    assert token not in load_prompt("math", "small").render(persona=token)[-1]["content"]


def test_prompts_are_read_from_a_zip(tmp_path: Path):
    """Executors get the library as a zip."""
    library = Path(persona_hub.__file__).parent
    copy = tmp_path / "copy" / "persona_hub"
    shutil.copytree(library, copy, ignore=shutil.ignore_patterns("__pycache__"))
    with zipfile.ZipFile(tmp_path / "library.zip", "w") as archive:
        for file in sorted(copy.rglob("*")):
            archive.write(file, file.relative_to(copy.parent))
    code = "import persona_hub.prompts as p; print(p.__file__); print(len(p.list_prompts())); print(p.load_prompt('math').hash)"
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(tmp_path / "library.zip")}, cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    file, count, digest = result.stdout.split()
    assert "library.zip" in file and int(count) == len(list_prompts()) and digest == load_prompt("math").hash
