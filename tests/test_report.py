"""The report: what it shows, that it shows nothing else, and that it refuses what it cannot trust."""

from __future__ import annotations

import copy
import json
import math
import re
import tomllib
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from rc_deploy.errors import InputError, MissingDependencyError, OutputError
from rc_deploy.report import build_report, words
from rc_deploy.report.svg import Ink
from report_documents import bench, chain, everything, failed, first, manifest, training, validation, write

HOSTILE = "<script>alert('x')</script>\"&$x_{\u202e\ud800\x00.onnx"
VOID = {"meta", "link", "br", "img", "hr", "input"}


def report(tmp_path: Path, documents: dict[str, Any]) -> str:
    output = tmp_path / "report.html"
    build_report([write(tmp_path / "documents", documents)], output)
    return output.read_text(encoding="utf-8")


class Outline(HTMLParser):
    """Reads a page strictly: what opens must close in order. Keeps its text, tags and attributes."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert not self._open, f"never closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self._open or self._open[-1] != "style":
            self.text += data

    @property
    def sections(self) -> list[str | None]:
        return [value for key, value in self.attributes if key == "id" and value and "-" not in value]


def test_shows_everything_in_order(tmp_path: Path) -> None:
    page = Outline(report(tmp_path, everything()))
    assert page.sections == ["training", "parity", "build", "speed", "machine", "reproduce"]
    assert page.tags.count("svg") == 6  # two of training, two of speed, one for each validation
    for text in ("testnet8", "12,345 parameters", "95.00%", "6 of 6 convolutions", "1.25", "8.6, 8.9", "1 to 64"):
        assert text in page.text
    for text in ("Test GPU", "onnx 9.9.9", "e" * 64, "2 (1 to 3)", "8,000", "rc-deploy train digits", "Test-OS"):
        assert text in page.text
    assert page.text.index("PASS") < page.text.index("Summary") < page.text.index("Recipe")


def test_parses_with_balanced_tags_and_unique_ids(tmp_path: Path) -> None:
    page = Outline(report(tmp_path, everything()))
    ids = Counter(value for key, value in page.attributes if key == "id")
    assert max(ids.values()) == 1
    assert {value[1:] for key, value in page.attributes if key == "href" and value} <= {*ids}


def test_needs_no_network_and_no_scripts(tmp_path: Path) -> None:
    html = report(tmp_path, everything())
    page = Outline(html)
    assert {"script", "link", "img", "iframe", "object", "base", "form"}.isdisjoint(page.tags)
    assert all(value and value.startswith("#") for key, value in page.attributes if key in ("href", "src"))
    assert not any(key.startswith("on") for key, _ in page.attributes)
    assert not re.search(r"https?://|@import|url\((?!#)", html)


def test_colours_follow_the_page(tmp_path: Path) -> None:
    html = report(tmp_path, everything())
    assert "prefers-color-scheme: dark" in html
    for ink in Ink:
        assert ink.value not in html
        assert f"{ink.variable}:" in html
    for svg in re.findall(r"<svg.*?</svg>", html, re.DOTALL):
        assert set(re.findall(r"(?:fill|stroke): ([^;\"]+)", svg)) <= {"none", *(f"var({ink.variable})" for ink in Ink)}


def test_plots_have_words_for_those_who_cannot_see_them(tmp_path: Path) -> None:
    html = report(tmp_path, everything())
    for svg in re.findall(r"<svg[^>]*>\s*<title>.+?</title>", html):
        assert 'role="img"' in svg
        assert 'aria-label="' in svg
    assert "largest error 0.00200, tolerance 0.0340" in html


def test_same_documents_same_bytes(tmp_path: Path) -> None:
    assert report(tmp_path, everything()) == report(tmp_path, everything())


@pytest.mark.parametrize(
    ("names", "sections"),
    [
        (["training.json"], ["training", "machine", "reproduce"]),
        (["fp32.json"], ["parity", "machine", "reproduce"]),
        (["engine.json"], ["build", "machine", "reproduce"]),
        (["bench.json", "fp16.json"], ["parity", "speed", "machine", "reproduce"]),
    ],
)
def test_leaves_out_what_no_document_is_about(tmp_path: Path, names: list[str], sections: list[str]) -> None:
    documents = {name: everything()[name] for name in names}
    assert Outline(report(tmp_path, documents)).sections == sections


def test_verdict_in_words(tmp_path: Path) -> None:
    write(tmp_path, {"v.json": validation()})
    summary = build_report([tmp_path / "v.json"], tmp_path / "report.html")
    sentence = (
        "The fp16 graph computes what the checkpoint computes: largest logit error 0.0020 of the 0.034 allowed, "
        "100.00% same class on 360 images."
    )
    assert summary.rows[0] == ("PASS", sentence, True)
    assert ("Accuracy", "checkpoint 98.33%, fp16 graph 98.33%, on 360 images of digits:test", None) in summary.rows


def test_one_failure_fails_the_whole(tmp_path: Path) -> None:
    write(tmp_path, {"a.json": validation("fp32", error=1e-6), "b.json": validation(error=0.5)})
    summary = build_report([tmp_path], tmp_path / "report.html")
    word, sentence, passed = summary.rows[0]
    assert (word, passed) == ("FAIL", False)
    assert "fp16 graph up.fp16.onnx does not compute" in sentence
    assert "14.7 times the 0.0340 allowed" in sentence
    text = Outline((tmp_path / "report.html").read_text(encoding="utf-8")).text
    assert text.index("FAIL") < text.index("Summary")


@pytest.mark.parametrize("value", [math.inf, math.nan, 1e300])
def test_draws_values_that_no_axis_has_a_place_for(tmp_path: Path, value: float) -> None:
    document = failed(validation(error=value))
    assert "FAIL" in Outline(report(tmp_path, {"v.json": document})).text


def test_identical_results_have_no_error_to_draw(tmp_path: Path) -> None:
    document = validation(error=0.0)
    first(document)["comparison"] |= {"error_quantiles": [0.0] * 4}
    first(document)["tolerance"] |= {"maximum": 0.0}
    first(document)["criteria"][0]["bound"] = 0.0
    page = Outline(report(tmp_path, {"v.json": document}))
    assert "PASS" in page.text
    assert "Zero stands at the left end" in page.text


def test_says_what_ran_in_place_of_an_engine(tmp_path: Path) -> None:
    write(tmp_path, {"v.json": validation(note="The engine itself was NOT run: no driver.")})
    summary = build_report([tmp_path], tmp_path / "report.html")
    assert "fp16 graph behind the engine" in summary.rows[0][1]
    assert summary.rows[1] == ("Note on up.fp16.onnx", "The engine itself was NOT run: no driver.", None)
    text = Outline((tmp_path / "report.html").read_text(encoding="utf-8")).text
    assert text.index("The engine itself was NOT run") < text.index("Summary")


def test_without_validation_nothing_is_claimed(tmp_path: Path) -> None:
    write(tmp_path, {"engine.json": manifest()})
    assert build_report([tmp_path], tmp_path / "report.html").rows[0][::2] == ("NOT VALIDATED", None)


@pytest.mark.parametrize("passed", [True, False])
def test_a_manifest_may_record_a_validation(tmp_path: Path, passed: bool) -> None:
    proof = {"data": "digits:test", "images": 9, "reference_sha256": "c" * 64, "executed": "Test Runtime"}
    proof |= {"note": "", "max_error": 0.1, "agreement": 90.0, "passed": passed}
    write(tmp_path, {"engine.json": manifest() | {"proven": {"validation": proof}}})
    summary = build_report([tmp_path], tmp_path / "report.html")
    assert summary.rows[0][::2] == (("NOT VALIDATED", None) if passed else ("FAIL", False))


def test_mixed_references_are_pointed_out(tmp_path: Path) -> None:
    other = validation("fp32")
    first(other)["reference"] |= {"sha256": "d" * 64, "path": "made/other.pt"}
    assert "against different files: " in Outline(report(tmp_path, {"a.json": validation(), "b.json": other})).text


def test_several_artefacts_of_one_run_are_reported_each(tmp_path: Path) -> None:
    write(tmp_path, {"v.json": chain(first(validation("fp32", error=1e-6)), first(validation()), seed=5)})
    summary = build_report([tmp_path], tmp_path / "report.html")
    assert summary.rows[0][1].startswith("All 2 validations passed")
    text = Outline((tmp_path / "report.html").read_text(encoding="utf-8")).text.replace(" \\\n    ", " ")
    command = "rc-deploy validate made/up.fp32.onnx made/up.fp16.onnx --reference made/up.pt --data digits:test"
    assert f"{command} --limit 360 --seed 5 --min-agreement 99" in text


def test_scattered_times_come_with_a_warning(tmp_path: Path) -> None:
    noisy = bench()
    noisy["timings"][1] |= dict.fromkeys(("p90", "p95", "p99"), 40.0)
    assert "Read with care" in report(tmp_path, {"bench.json": noisy})
    assert "Read with care" not in report(tmp_path, {"bench.json": bench()})


def poison(value: Any) -> Any:
    """Return `value` with every text in it, keys of tables of settings included, made hostile."""
    if isinstance(value, dict):
        return {key: poison(item) for key, item in value.items()}
    if isinstance(value, list):
        return [poison(item) for item in value]
    return HOSTILE if isinstance(value, str) else value


@pytest.mark.parametrize("name", list(everything()))
def test_hostile_text_is_inert(tmp_path: Path, name: str) -> None:
    kind = {"schema", "format"}
    document = {key: item if key in kind else poison(item) for key, item in everything()[name].items()}
    for key in {"recipe", "arguments", "backend"} & {*document}:
        document[key] = {HOSTILE: HOSTILE}
    html = report(tmp_path, {name: document})
    page = Outline(html)
    assert "script" not in page.tags
    assert "<script" not in html.lower()
    assert "<script>alert" in page.text.replace("/", "") or "script>" in page.text
    assert not {"\u202e", "\x00", "\ud800"} & {*html}
    assert not any(key.startswith("on") for key, _ in page.attributes)


def test_hostile_title_and_file_name_are_inert(tmp_path: Path) -> None:
    path = tmp_path / "<script>alert(1)<b>.json"
    path.write_text(json.dumps(validation()), encoding="utf-8")
    build_report([path], tmp_path / "report.html", title="</title><script>alert(1)")
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<script" not in html
    assert "script" not in Outline(html).tags


def test_commands_are_quoted_for_the_shell(tmp_path: Path) -> None:
    document = validation("fp32")
    first(document)["artefact"]["path"] = "-o; rm x.onnx"
    text = Outline(report(tmp_path, {"v.json": document})).text
    assert "rc-deploy export made/up.pt './-o; rm x.onnx'" in text
    assert "--limit 360 --min-agreement 99" in text.replace(" \\\n    ", " ")


def test_folder_passes_over_what_is_not_ours(tmp_path: Path) -> None:
    folder = write(tmp_path / "d", {"v.json": validation(), "other.json": {"a": 1}, "list.json": [1]})
    (folder / "notes.txt").write_text("no JSON")
    build_report([folder, folder / "v.json"], tmp_path / "report.html")
    assert "from 1 document<" in (tmp_path / "report.html").read_text(encoding="utf-8")


def broken(change: dict[str, Any], where: str = "") -> str:
    """Return a validation with a value changed, at the top, in its "machine", or in what it says of an artefact."""
    document = copy.deepcopy(validation())
    place = document
    for key in filter(None, where.split(".")):
        place = first(document) if key == "first" else place[key]
    place.update(change)
    for key in [key for key, value in place.items() if value == "DELETE"]:
        del place[key]
    return json.dumps(document)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ('{"schema": "rc-deploy/val', "not valid JSON"),
        ("[1, 2]", "does not hold a JSON object"),
        ('{"a": 1}', "not a document that a report is made from"),
        (json.dumps(validation() | {"schema_version": 3}), "has version 3"),
        (broken({"schema_version": "DELETE"}), "has version None"),
        (broken({"data": "DELETE"}, "first"), "'validations[0].data' is missing"),
        (broken({"max_error": "big"}, "first.comparison"), "comparison.max_error' is text where a number belongs"),
        (broken({"images": True}, "first.comparison"), "comparison.images' is true or false where a whole number"),
        (broken({"error_quantiles": [1.0]}, "first.comparison"), "must hold 4 values, not 1"),
        (broken({"scale": 10**400}, "first.tolerance"), "tolerance.scale' is too large"),
        (broken({"gpus": {}}, "machine"), "'machine.gpus' is an object where a list belongs"),
        (broken({"passed": False}, "first"), "'passed' is not what the criteria"),
        (broken({"criteria": []}, "first"), "'passed' is not what the criteria"),
        (broken({"passed": False}), "'passed' is not what its validations give"),
        (broken({"validations": []}), "'passed' is not what its validations give"),
        (
            json.dumps(
                chain(first(validation()), first(validation()) | {"reference": first(validation())["artefact"]})
            ),
            "against several references",
        ),
        (json.dumps(bench() | {"timings": []}), "no timings"),
        (json.dumps(bench() | {"artefacts": bench()["artefacts"][:1]}), "a timing names artefact 1 of 1"),
        (json.dumps(bench()).replace('"p50": 2.0', '"p50": 0'), "not a plausible positive number"),
        (json.dumps(bench()).replace('"p99": 3.0', '"p99": 2.1'), "percentiles do not ascend"),
    ],
)
def test_bad_documents_are_refused_and_the_earlier_report_stays(tmp_path: Path, content: str, message: str) -> None:
    source, output = tmp_path / "v.json", tmp_path / "report.html"
    source.write_text(content, encoding="utf-8")
    output.write_text("earlier")
    with pytest.raises(InputError) as caught:
        build_report([source], output)
    assert message in str(caught.value)
    assert str(source) in str(caught.value)
    assert caught.value.hint
    assert output.read_text() == "earlier"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "v.json"]


def test_nothing_to_report(tmp_path: Path) -> None:
    for sources in ([], [tmp_path]):
        with pytest.raises(InputError, match="nothing to report"):
            build_report(sources, tmp_path / "report.html")
    with pytest.raises(InputError, match="There is no document at"):
        build_report([tmp_path / "missing.json"], tmp_path / "report.html")


def test_never_overwrites_a_document(tmp_path: Path) -> None:
    write(tmp_path, {"v.json": validation()})
    with pytest.raises(OutputError, match="would overwrite"):
        build_report([tmp_path], tmp_path / "v.json")
    assert json.loads((tmp_path / "v.json").read_text()) == validation()


def test_output_that_cannot_be_written(tmp_path: Path) -> None:
    write(tmp_path, {"v.json": validation()})
    with pytest.raises(OutputError, match="could not be written"):
        build_report([tmp_path], tmp_path / "missing" / "report.html")


def test_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rc_deploy.optional.is_installed", lambda name: name != "matplotlib")
    write(tmp_path, {"v.json": validation()})
    with pytest.raises(MissingDependencyError, match="A report with plots needs Matplotlib") as caught:
        build_report([tmp_path], tmp_path / "report.html")
    assert caught.value.hint == "pip install 'rc-deploy[report]'"
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (words.percent(99.9999), "99.99%"),
        (words.percent(100.0), "100.00%"),
        (words.share(1.0), "100%"),
        (words.share(0.9999), "99%"),
        (words.share(1.00001), "1.01 times"),
        (words.share(math.inf), "beyond"),
        (words.number(0.0), "0"),
        (words.number(1.34e-6).replace("\xa0", " "), "1.34 \N{MULTIPLICATION SIGN} 10⁻⁶"),
        (words.number(12300.0), "12,300"),
        (words.number(math.nan), "not finite"),
        (words.seconds(725.0), "12 min 5 s"),
        (words.shorten("a" * 50 + ".onnx", 20), "aaaaaa…aaaaaaaa.onnx"),
        (words.moment("2001-02-03T04:05:06+00:00"), "2001-02-03 04:05 UTC"),
        (words.moment("yesterday"), "yesterday"),
    ],
)
def test_words(text: str, expected: str) -> None:
    assert text == expected


def test_options_of_a_network_are_given_as_toml(tmp_path: Path) -> None:
    document = training()
    document["recipe"]["options"] = {"head": "fc2", "reduction": 2}
    text = Outline(report(tmp_path, {"t.json": document})).text
    (written,) = re.findall("--set '(options=.*)'", text)
    assert tomllib.loads(written) == {"options": {"head": "fc2", "reduction": 2}}
