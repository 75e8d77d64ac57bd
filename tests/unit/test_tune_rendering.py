"""A tuning's result as people and programs read it."""

import io
import json
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from profkit.render.tuning import (
    outcome,
    print_tuning,
    recipe,
    render_tuning_json,
    render_tuning_markdown,
    tune_sentence,
)
from profkit.schema.fix import Fix, Knob
from profkit.schema.tuning import Gain, TuneFindings
from tunings import BF16, FUSED, MEMORY, TWO_WORKERS, estimate, findings, prediction, trial

UNSEEDED = "the program's losses differ from run to run: seed it"


def shown(found: TuneFindings) -> str:
    text = io.StringIO()
    print_tuning(found, Console(file=text, width=140))
    return text.getvalue()


def whole() -> TuneFindings:
    best = replace(trial(MEMORY, value=9.0, reach=0.1), predicted=prediction(8.0))
    return findings(
        best,
        trial(MEMORY, BF16, value=9.1, adds=False),
        trial(FUSED, gain=Gain.FAILED, same=None, reason="Rprop has no fused implementation"),
        trial(TWO_WORKERS, gain=Gain.LEFT, same=None, reason="the budget was spent"),
    )


def test_predicted_and_measured_stand_side_by_side() -> None:
    for text in (shown(whole()), render_tuning_markdown(whole())):
        line = next(one for one in text.splitlines() if "data in memory" in one and "7.6 to" in one)
        assert "8× (7.6 to 8.4)" in line
        assert "9× (8.1 to 9.9)" in line
        assert "faster, proven" in line
        assert text.index("8.1 to") < text.index("the budget was spent")
        assert "Rprop has no fused implementation" in text
        assert "adds nothing" in text


def test_the_sentence_names_the_best_that_is_proven() -> None:
    assert tune_sentence(whole()).startswith("data in memory makes it 9×")
    assert tune_sentence(findings()) == "no fix is proven to make it faster"


def test_the_best_holds_nothing_needless() -> None:
    alone = trial(MEMORY, value=9.0)
    found = findings(trial(MEMORY, BF16, value=9.2, adds=False), alone)
    assert found.best == alone
    assert not any("bf16" in line for line in recipe(found))


def test_what_is_not_verified_says_so_and_gives_no_recipe() -> None:
    found = findings(trial(MEMORY, value=9.0, same=None, reason=UNSEEDED), gaps=(UNSEEDED,))
    assert tune_sentence(found).startswith("nothing is verified: data in memory measures 9×")
    assert recipe(found) == ()
    assert "faster, not verified" in shown(found)
    # The same sentence for each fix would hide the rest.
    assert shown(found).count("gap: ") == 1
    assert outcome(found.trials[0]).endswith("seed it")


def test_the_recipe_keeps_its_indentation() -> None:
    assert recipe(whole())[-1] == "    take(rows)"
    assert "        take(rows)" in shown(whole())
    assert "\n    take(rows)\n" in render_tuning_markdown(whole())


def test_json_is_whole_and_unrounded() -> None:
    content = json.loads(render_tuning_json(whole()))
    first, second, third, _ = content["trials"]
    assert first["speedup_interval"] == [9.0 * 0.9, 9.0 * 1.1]
    assert first["predicted"]["speedup"] == 8.0
    assert (first["proven"], second["adds"]) == (True, False)
    assert (third["speedup"], third["outcome"]) == (None, "failed")
    assert content["recipe"][-1] == "    take(rows)"


def test_what_a_program_says_cannot_forge_the_report() -> None:
    evil = "\x1b[31mdone\n\n# proven ``` | x |"
    found = findings(
        trial(Fix(evil, Knob.DATA), value=2.0),
        trial(BF16, gain=Gain.FAILED, same=None, reason=evil),
        gaps=(evil,),
    )
    text = shown(found)
    assert "\x1b" not in text
    markdown = render_tuning_markdown(found)
    assert "\x1b" not in markdown
    assert "\n# proven" not in markdown


def test_the_second_number_of_the_best_stands_beside_the_one_that_chose_it() -> None:
    best = replace(
        trial(MEMORY, value=9.0, reach=0.1),
        first=estimate(10.5, 0.1),
        once_s=12.5,
        pays_after=1390,
    )
    found = findings(best)
    for text in (shown(found), render_tuning_markdown(found)):
        assert "9× (8.1 to 9.9)" in text
        assert "when it was chosen it measured 10.5× (9.45 to 11.6)" in text.replace("\n", " ")
        assert "12.5 s" in text
        assert "1390 steps" in text
    (one,) = json.loads(render_tuning_json(found))["trials"]
    assert (one["speedup"], one["first_speedup"]) == (9.0, 10.5)
    assert (one["once_s"], one["pays_after"]) == (12.5, 1390)
    (one,) = json.loads(render_tuning_json(findings(trial(MEMORY, value=9.0))))["trials"]
    assert (one["first_speedup"], one["first_speedup_interval"], one["once_s"]) == (None,) * 3


def test_what_looks_took_is_said() -> None:
    found = replace(findings(), looks_s=7.4)
    assert "7 of them on looks" in shown(found).replace("\n", " ")
    assert json.loads(render_tuning_json(found))["looks_s"] == 7.4


def test_the_readme_names_what_the_json_holds() -> None:
    text = (Path(__file__).parents[2] / "README.md").read_text()
    about = text[text.index("`tune.json`") : text.index("## Comparing runs")]
    content = json.loads(render_tuning_json(whole()))
    del content["schema"]  # is named with its value
    for name in (*content, *content["trials"][0], *content["trials"][0]["fixes"][0]):
        assert f"`{name}`" in about, name
    for gain in Gain:
        assert f"`{gain.value}`" in about.replace("\n ", ""), gain
