"""The report: the page says what results.json says, the table too, and nothing in results.json can break them."""

from __future__ import annotations

import csv
import json
import re
import sys
from html.parser import HTMLParser
from xml.etree import ElementTree

import made_up
import pytest

from twcodec.errors import MissingError, OutputError, UnreadableError
from twcodec.robustness.report import write_report

HOSTILE = """"'><script>alert(1)</script><img src=x onerror=alert(1)>$x_{1}$/../..\udce9"""
NO_PLOTS = {"curves": [], "attacked": []}
LISTS = ("models", "sanity", "defences", "curves", "bd_rate", "clean", "attacked", "removed", "examples")
SHOWN = {
    "loss_ratio": ".2f", "bpp_ratio": ".2f", "delta_psnr": "+.2f", "delta_psnr_source": "+.2f", "vi": "+.2f",
    "delta_ms_ssim": "+.4f", "worst_loss_ratio": ".2f", "transformed_share": ".2f", "guard_share": ".2f",
    "encode_ms": ".0f", "decode_ms": ".0f",
}  # fmt: skip


class Tree(HTMLParser):
    """A page as an ElementTree; fails where a tag is not closed."""

    def __init__(self, text: str):
        super().__init__()
        self.builder, self.open = ElementTree.TreeBuilder(), []
        self.feed(text)
        assert self.open == []
        self.root = self.builder.close()

    def handle_starttag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs), f"an attribute twice: {attrs}"
        self.builder.start(tag, {key: value or "" for key, value in attrs})
        if tag in ("meta", "link", "img"):
            self.builder.end(tag)
        else:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        self.builder.end(tag)

    def handle_data(self, data):
        if self.open:
            self.builder.data(data)


def tree(path):
    return Tree(path.read_text()).root


def text(element) -> str:
    return " ".join("".join(element.itertext()).split())


def cells(page, section) -> list[list[str]]:
    return [[text(cell) for cell in row] for row in page.iterfind(f".//section[@id='{section}']//tbody/tr")]


def printed(value, form) -> str:
    return "–" if value is None else f"{value:{form}}".replace("-", "−")


def span(value, form) -> str:
    """A figure with its interval, as it is printed."""
    if not isinstance(value, dict):
        return printed(value, form)
    mean, low, high = (printed(value[key], form) for key in ("mean", "low", "high"))
    return mean if low == "–" else f"{mean} {low} to {high}"


def attacked_cells(page) -> dict[tuple[str, ...], str]:
    """(model, quality, objective, eps, threat, attack, defence, metric) -> printed text."""
    table = page.find(".//div[@id='damage']//table")
    defences = [text(cell) for cell in table.find("thead/tr")][1:]
    found = {}
    for body in table.iterfind("tbody"):
        condition = [body.get(f"data-{key}") for key in ("model", "quality", "objective", "eps")]
        for row in body.findall("tr")[1:]:
            attack = text(row.find("th/small"))
            threat = text(row.find("th")).removesuffix(" " + attack)
            for defence, cell in zip(defences, row.findall("td"), strict=True):
                for figure in cell.findall("span"):
                    found[(*condition, threat, attack, defence, figure.get("class").split()[1])] = text(figure)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = made_up.write(tmp_path_factory.mktemp("report"))
    assert write_report(folder) == folder / "report.html"
    return folder


@pytest.fixture(scope="module")
def page(folder):
    return tree(folder / "report.html")


def test_every_figure_of_an_attacked_row_is_in_its_cell_of_the_page(page):
    found = attacked_cells(page)
    rows = made_up.results()["attacked"]
    assert len(found) == len(rows) * len(SHOWN)
    for row in rows:
        place = (
            row["model"], f"{row['quality']:g}", row["objective"], f"{row['eps']:g}", row["threat"], row["attack"],
            row["defence"],
        )  # fmt: skip
        assert {key: found[(*place, key)] for key in SHOWN} == {key: span(row[key], SHOWN[key]) for key in SHOWN}


def test_every_figure_of_a_clean_row_and_every_bd_rate_is_in_the_page(page):
    made = made_up.results()
    assert cells(page, "clean") == [
        [
            row["model"], f"{row['quality']:g}", row["defence"], f"{row['bpp']:.4f}", f"{row['psnr']:.2f}",
            f"{row['ms_ssim']:.4f}", f"{row['loss']:.4f}", span(row["loss_ratio"], ".3f"),
            f"{100 * row['transformed_share']:.0f} %", f"{100 * row['guard_share']:.0f} %", f"{row['encode_ms']:.0f}",
            f"{row['decode_ms']:.0f}",
        ]
        for row in made["clean"]
    ]  # fmt: skip
    assert cells(page, "curves") == [
        [row["model"], row["condition"], row["defence"], printed(row["percent"], "+.2f") + " %"]
        for row in made["bd_rate"]
    ]


def test_every_share_removed_is_in_the_page(page):
    found = []
    table = page.find(".//table[@class='grid removed']")
    defences = [text(cell) for cell in table.find("thead/tr")][1:]
    for body in table.iterfind("tbody"):
        condition = [body.get(f"data-{key}") for key in ("model", "quality", "objective", "eps")]
        for row in body.findall("tr")[1:]:
            for defence, cell in zip(defences, row.findall("td"), strict=True):
                found.append((*condition, text(row.find("th")), defence, text(cell)))
    expected = [
        (
            r["model"],
            f"{r['quality']:g}",
            r["objective"],
            f"{r['eps']:g}",
            r["threat"],
            r["defence"],
            f"{100 * r['share']:.0f} %",
        )
        for r in made_up.results()["removed"]
    ]
    assert sorted(found) == sorted(expected)


def test_what_was_run_is_in_the_page(page, folder):
    made = json.loads((folder / "results.json").read_text())
    whole = text(page)
    facts = [made[key] for key in ("date", "command", "machine", "twc", "torch")] + ["took 20.6 minutes"]
    facts += [row["detail"] for row in made["sanity"]] + [row["summary"] for row in made["defences"]]
    facts += [row["digest"] for row in made["models"]] + ["2, 4, 8"] + [row["title"] for row in made["examples"]]
    facts += ["1.900 bpp, 31.00 dB, RD loss 2.200", "1.500 bpp, 31.10 dB, RD loss 2.200"]
    assert [fact for fact in facts if fact not in whole] == []


def test_every_plot_and_picture_is_in_the_page_and_the_plots_are_files_too(page, folder):
    titles = [text(plot.find("figcaption")) for plot in page.iterfind(".//figure[@class='plot']")]
    assert len(titles) == len(set(titles)) == 2 * 2 + 3 * 3
    assert len(list(page.iterfind(".//figure[@class='plot']//svg"))) == len(titles)
    assert len(list((folder / "plots").glob("*.png"))) == len(titles)
    uris = [picture.get("src") for picture in page.iterfind(".//img")]
    assert len(set(uris)) == 2 * 4
    assert all(uri.startswith("data:image/png;base64,") for uri in uris)
    ids = [element.get("id") for element in page.iter() if "id" in element.attrib]
    assert len(ids) == len(set(ids))


def test_the_page_needs_nothing_but_itself(page):
    for element in page.iter():
        for key in ("src", "href", "xlink:href", "action", "srcset"):
            assert element.get(key, "#").startswith(("#", "data:"))
    assert "@import" not in text(page)


def test_the_same_results_give_the_same_page(folder, tmp_path):
    write_report(made_up.write(tmp_path))
    for name in ("report.html", "table.csv"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def hostile(value):
    """Every text in a part of results.json made hostile, each in its own way; file names stay."""
    if isinstance(value, dict):
        return {key: v if key in ("original", "attacked", "reconstruction") else hostile(v) for key, v in value.items()}
    if isinstance(value, list):
        return [hostile(v) for v in value]
    return value + HOSTILE if isinstance(value, str) and value not in ("none", "clean") else value


def write_hostile(folder):
    folder.mkdir()
    made_up.write(folder)
    made = json.loads((folder / "results.json").read_text())
    made = {key: value if key == "version" else hostile(value) for key, value in made.items()}
    made["attacked"] = made["attacked"][:40]
    (folder / "results.json").write_text(json.dumps(made))
    return folder


def test_a_hostile_name_is_text_and_nothing_else(tmp_path):
    page = tree(write_report(write_hostile(tmp_path / "x")))
    assert "default" + HOSTILE.replace("\udce9", "?") in text(page)
    assert len(list(page.iter("script"))) == 1
    assert all(picture.get("src").startswith("data:") for picture in page.iter("img"))
    assert not [key for element in page.iter() for key in element.attrib if key.startswith("on")]
    assert {path.name for path in tmp_path.iterdir()} == {"x"}
    assert {path.name for path in (tmp_path / "x").iterdir()} == {
        "report.html", "table.csv", "plots", "results.json", "examples",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "examples/no.png", "results.json", "a\0b", None, 3])
def test_a_picture_that_is_no_png_of_the_folder_is_said_to_be_missing(tmp_path, name):
    folder = tmp_path / "run"
    folder.mkdir()
    (tmp_path / "secret.png").write_bytes(b"\x89PNG\r\n\x1a\nsecret")
    made_up.write(folder, **NO_PLOTS, examples=[{"title": "t", "original": name, "attacked": None, "shown": []}])
    page = tree(write_report(folder))
    assert not list(page.iter("img"))
    assert text(page).count("The file of this picture is missing.") == 2


@pytest.mark.parametrize("empty", [[], None, "left out"])
def test_empty_lists_make_a_page_that_says_so(tmp_path, empty):
    made = {"version": 1} if empty == "left out" else made_up.results() | dict.fromkeys(LISTS, empty)
    (tmp_path / "results.json").write_text(json.dumps(made))
    page = tree(write_report(tmp_path))
    for sentence in (
        "this run says nothing about robustness", "This run made no sanity checks.", "No clean pictures were measured.",
        "This run has no curves.", "No attacked pictures were measured.", "This run kept no examples.",
    ):  # fmt: skip
        assert sentence in text(page)
    assert not list(page.iter("table"))
    assert len((tmp_path / "table.csv").read_text().splitlines()) == 1


@pytest.mark.parametrize("emptied", LISTS)
def test_any_one_list_may_be_empty(tmp_path, emptied):
    few = {"attacked": made_up.results()["attacked"][:8], "curves": made_up.results()["curves"][:2]}
    tree(write_report(made_up.write(tmp_path, **few | {emptied: []})))


def test_rows_of_which_nothing_is_known_are_dashes(tmp_path):
    page = tree(
        write_report(made_up.write(tmp_path, clean=[{}], attacked=[{}], removed=[{}], bd_rate=[{}], curves=[{}]))
    )
    assert set(attacked_cells_of_nothing(page)) == {"–"}


def attacked_cells_of_nothing(page):
    return [text(figure) for figure in page.iterfind(".//div[@id='damage']//td/span")]


@pytest.mark.parametrize("holds", [False, None, "yes"])
def test_a_sanity_check_that_does_not_hold_is_said_at_the_top(tmp_path, page, holds):
    assert page.find(".//header/p[@role='alert']") is None
    sanity = [*made_up.results()["sanity"], {"name": "noise is harmless", "holds": holds}]
    warning = text(
        tree(write_report(made_up.write(tmp_path, **NO_PLOTS, sanity=sanity))).find(".//header/p[@role='alert']")
    )
    assert warning == "Do not trust these figures. 1 of 3 sanity checks failed: noise is harmless."


def test_the_table_has_a_column_for_every_figure_and_a_line_for_every_row(folder):
    with (folder / "table.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    rows = made_up.results()["attacked"]
    spans = ("bpp_ratio", "loss_ratio", "delta_psnr", "delta_psnr_source", "delta_ms_ssim", "vi")
    assert list(lines[0]) == [
        "model", "quality", "attack", "objective", "threat", "eps", "defence", "pictures", "draws",
        *(name for key in spans for name in (key, f"{key}_low", f"{key}_high")),
        "worst_loss_ratio", "transformed_share", "guard_share", "encode_ms", "decode_ms",
    ]  # fmt: skip
    expected = []
    for row in rows:
        flat = {key: value for key, value in row.items() if key not in spans}
        for key in spans:
            value = row[key] or {"mean": None, "low": None, "high": None}
            flat |= {key: value["mean"], f"{key}_low": value["low"], f"{key}_high": value["high"]}
        expected.append({key: "" if value is None else str(value) for key, value in flat.items()})
    assert lines == expected


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", "{}", '{"version": 2}', '{"version": "1"}', '{"version": true}', '{"version": 1, "clean": 3}',
     '{"version": 1, "attacked": [3]}', '{"version": 1, "curves": [{"points": "x"}]}', "[" * 100_000, b"\xff"],
)  # fmt: skip
def test_what_is_no_results_json_of_this_version_is_unreadable_and_nothing_is_written(tmp_path, content):
    (tmp_path / "results.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UnreadableError, match=re.escape(str(tmp_path / "results.json"))):
        write_report(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


def test_another_version_and_a_folder_without_results_say_what_to_do(tmp_path):
    with pytest.raises(UnreadableError, match=r"cannot be read: No such file or directory; make it with: twc evaluate"):
        write_report(tmp_path)
    (tmp_path / "results.json").write_text('{"version": 2}')
    with pytest.raises(UnreadableError, match=r"is of version 2, expected 1; make it with: twc evaluate"):
        write_report(tmp_path)


@pytest.mark.parametrize("name", ["matplotlib", "jinja2"])
def test_a_missing_library_is_named_with_its_cure_and_nothing_is_written(tmp_path, monkeypatch, name):
    made_up.write(tmp_path, examples=[])
    before = {path.name for path in tmp_path.iterdir()}
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingError, match=rf"{name} is missing.*pip install 'twcodec\[eval\]'"):
        write_report(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == before


def test_a_report_that_cannot_be_written_is_an_output_error(tmp_path):
    made_up.write(tmp_path, **NO_PLOTS)
    (tmp_path / "report.html").mkdir()
    with pytest.raises(OutputError, match="cannot be written: Is a directory"):
        write_report(tmp_path)


def test_noise_that_has_no_objective_is_a_group_of_its_own_and_a_mark_in_the_plots(tmp_path):
    row = made_up.attacked_row("default", 6.0, "rate", "adaptive", 4.0, "none")
    noise = row | {"attack": "noise", "objective": "", "threat": "none", "loss_ratio": made_up.span(9.0, 0.1)}
    page = tree(write_report(made_up.write(tmp_path, **NO_PLOTS | {"attacked": [noise, row]}, removed=[])))
    assert [body.get("data-objective") for body in page.iterfind(".//div[@id='damage']//tbody")] == ["noise", "rate"]
    assert [text(option) for option in page.iterfind(".//select[@name='objective']/option")] == ["all", "noise", "rate"]
    titles = [text(plot.find("figcaption")) for plot in page.iterfind(".//figure[@class='plot']")]
    assert titles == ["default -q 6: rate"]
    assert "random noise" in text(page.find(".//figure[@class='plot']"))
    assert "800 %" not in text(page.find(".//section[@id='summary']"))
