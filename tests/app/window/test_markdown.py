"""An answer's Markdown is shown whole: nothing that a model writes is lost, and a growing answer looks as a whole one does."""

from __future__ import annotations

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication, QTextBlock, QTextBlockFormat, QTextDocument, QTextFrame, QTextTable
from PySide6.QtTest import QTest
from pytestqt.qtbot import QtBot

from app.window import code_colors, markdown, markdown_parts
from app.window.markdown import AnswerDocument
from app.window.theme import LIGHT
from tests.app.window.conftest import Show, replies

pytestmark = pytest.mark.usefixtures("qtbot")


def document(text: str) -> AnswerDocument:
    made = AnswerDocument()
    made.show_markdown(text, LIGHT, last=True)
    return made


def words(text: str) -> list[str]:
    return document(text).toPlainText().split()


def lines(text: str) -> list[str]:
    return [line for line in document(text).toPlainText().split("\n") if line]


def frames(made: QTextDocument) -> list[QTextFrame]:
    return [frame for frame in made.rootFrame().childFrames() if not isinstance(frame, QTextTable)]


def tables(made: QTextDocument) -> list[QTextTable]:
    return [frame for frame in made.rootFrame().childFrames() if isinstance(frame, QTextTable)]


def inside(frame: QTextFrame) -> str:
    cursor = frame.firstCursorPosition()
    cursor.setPosition(frame.lastPosition(), cursor.MoveMode.KeepAnchor)
    return cursor.selection().toPlainText()


def cells(table: QTextTable) -> list[list[str]]:
    def text(row: int, column: int) -> str:
        cell = table.cellAt(row, column)
        cursor = cell.firstCursorPosition()
        cursor.setPosition(cell.lastPosition(), cursor.MoveMode.KeepAnchor)
        return cursor.selectedText()

    return [[text(row, column) for column in range(table.columns())] for row in range(table.rows())]


def block(made: QTextDocument, text: str) -> QTextBlock:
    found = made.begin()
    while found.isValid() and text not in found.text():
        found = found.next()
    assert found.isValid(), text
    return found


CODE = "```py\nx = 1\n```\n"
TABLE = "| h1 | h2 |\n|---|---|\n| a | b |\n"


@pytest.mark.parametrize("between", ["", "\n"])
@pytest.mark.parametrize("before", ["", "text\n\n", "- item\n\n", "# Head\n"])
def test_a_table_behind_code_keeps_its_headings(before: str, between: str) -> None:
    made = document(before + CODE + between + TABLE)
    assert [inside(frame) for frame in frames(made)] == ["x = 1"]
    assert [cells(table) for table in tables(made)] == [[["h1", "h2"], ["a", "b"]]]


def test_a_table_behind_a_table_and_code_behind_it_keep_all(qtbot: QtBot) -> None:
    made = document(TABLE + "\n" + TABLE.replace("h1", "k1") + "\n" + CODE + "end")
    assert [cells(table)[0] for table in tables(made)] == [["h1", "h2"], ["k1", "h2"]]
    assert [inside(frame) for frame in frames(made)] == ["x = 1"]
    assert made.toPlainText().endswith("end")


@pytest.mark.parametrize("between", ["", "\n", "\n\n"])
@pytest.mark.parametrize(("fence", "other"), [("```", "```"), ("~~~", "```"), ("````", "~~~")])
def test_blocks_of_code_in_a_row_stay_apart(fence: str, other: str, between: str) -> None:
    made = document(f"{fence}py\none\n{fence}\n{between}{other}\ntwo\n\n  three\n{other}\n{between}# Head\n")
    assert [inside(frame) for frame in frames(made)] == ["one", "two\n\n  three"]
    assert block(made, "Head").blockFormat().headingLevel() == 1


@pytest.mark.parametrize("sign", ["-", "1.", "3)"])
def test_code_in_a_list_stands_under_its_item_and_keeps_its_own_indent(sign: str) -> None:
    pad = " " * (len(sign) + 1)
    code = f"{pad}```py\n{pad}def f():\n{pad}    return 1\n{pad}```\n"
    made = document(f"{sign} first\n\n{code}\n{pad}more\n\n{sign} second\n{code}")
    one, two = frames(made)
    assert inside(one) == inside(two) == "def f():\n    return 1"
    assert one.frameFormat().leftMargin() == two.frameFormat().leftMargin() == made.indentWidth()
    assert block(made, "more").blockFormat().indent() == 1
    list_ = block(made, "first").textList()
    assert list_ is not None
    assert list_.itemNumber(block(made, "second")) == 1  # the numbers go on behind the code


def test_lists_inside_lists_keep_their_depth_their_numbers_and_their_empty_items(qtbot: QtBot) -> None:
    made = document("3. three\n   - a\n     - b\n\n       deep\n4. four\n5.\n6. six\n")
    assert [block(made, text).textList().format().indent() for text in ("three", "a", "b")] == [1, 2, 3]
    assert block(made, "deep").blockFormat().indent() == 3
    numbered = block(made, "three").textList()
    assert (numbered.format().start(), numbered.count()) == (3, 4)


def test_tasks_have_boxes(qtbot: QtBot) -> None:
    made = document("- [ ] open\n- [x] done\n- [link]\n")
    marker = QTextBlockFormat.MarkerType
    states = [block(made, text).blockFormat().marker() for text in ("open", "done", "[link]")]
    assert states == [marker.Unchecked, marker.Checked, marker.NoMarker]


@pytest.mark.parametrize(
    "formula",
    [
        r"$\frac{a}{b} \\ \{x\}$",
        r"\(\{y\} \\ a*b*c\)",
        r"\[ \{w\} \\ x_1 y_1 \]",
        r"$$\{z\} \\ \% \, \; \!$$",
        "$$\nx \\\\\n- y\n\n+ \\{z\\}\n$$",
        "\\[\n# a \\\\\n> b\n= c\n\\]",
        "\\begin{align}\na &= b \\\\\n- c &= \\{d\\}\n\\end{align}",
    ],
)
def test_formulas_are_kept_as_they_are_written(formula: str) -> None:
    around = ["{}", "so {} is", "- item {}\n", "> {}", "# {}", "| a |\n|---|\n| {} |\n", "**{}**"]
    for place in around if "\n" not in formula else around[:1]:
        shown = document(place.replace("{}", formula)).toPlainText()
        assert " ".join(formula.split()) in " ".join(shown.split())


def test_a_formula_that_is_not_closed_yet_keeps_its_backslashes_and_money_is_no_formula(qtbot: QtBot) -> None:
    assert words("\\[\n\\{a\n- b") == ["\\[", "\\{a", "-", "b"]
    assert "\\(" in words("see \\( a")[1]
    made = document("It costs $5 and **not** $10.")
    assert made.toPlainText() == "It costs $5 and not $10."


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\n\n---\n\n- \n\nb", "a\n\n\nb"),
        ("&amp; &lt;b&gt; &copy; &#65; &nbsp;| `&amp;`", "& <b> © A \u00a0| &amp;"),
        ("<b>x</b> a < b <br> <!-- c --> <script>d</script>", "<b>x</b> a < b <br> <!-- c --> <script>d</script>"),
        ("<div>\n*x*\n</div>", "<div>\nx\n</div>"),
        ("C:\\new\\table and \\alpha", "C:\\new\\table and \\alpha"),
        ("[a\\_b](http://127.0.0.1/a\\_b) `a\\_b`", "a_b a\\_b"),
        ("text[^1]\n\n[^1]: the note", "text[^1]\n[^1]: the note"),
        ("[Note]: this is text", "[Note]: this is text"),
        ("a line\nanother", "a line\nanother"),
        ("roses  \nviolets\\\nend", "roses\nviolets\nend"),
        ("这是**“重要”**的。**注意：**请看", "这是“重要”的。注意：请看"),
        ("한국어**(강조)**입니다", "한국어(강조)입니다"),
        ("これは**「強調」**です", "これは「強調」です"),
        ("2 * 3 * 4 and snake_case_name", "2 * 3 * 4 and snake_case_name"),
        ("~~gone~~ ~5", "gone ~5"),
        ("***both*** and **bold*", "both and *bold"),
    ],
)
def test_nothing_of_a_line_is_lost(text: str, shown: str) -> None:
    assert document(text).toPlainText() == shown.replace("\xa0", " ")  # as Qt hands a space that does not break out


def test_emphasis_beside_chinese_is_bold(qtbot: QtBot) -> None:
    made = document("**注意：**请看")
    fragment = made.begin().begin().fragment()
    assert (fragment.text(), fragment.charFormat().fontWeight()) == ("注意：", 700)


def test_an_address_that_is_defined_is_shown_and_linked_before_and_behind(qtbot: QtBot) -> None:
    made = document("see [x], [y]\n\n[x]: http://127.0.0.1/a\n[y]: http://127.0.0.1/b\n\nand [x]")
    links = made.toHtml().count('href="http://127.0.0.1/a"')
    assert made.toPlainText().count("http://127.0.0.1/") == 2
    assert links >= 3


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("see http://127.0.0.1/a_b_c.", "http://127.0.0.1/a_b_c"),
        ("(http://127.0.0.1/a)", "http://127.0.0.1/a"),
        ("<http://127.0.0.1/a?b=c&d>", "http://127.0.0.1/a?b=c&d"),
        ("**http://127.0.0.1/x**", "http://127.0.0.1/x"),
    ],
)
def test_a_bare_address_is_a_link(text: str, address: str) -> None:
    made = document(text)
    found = []
    part = made.begin().begin()
    while not part.atEnd():
        found.append(part.fragment().charFormat().anchorHref())
        part += 1
    assert [*filter(None, found)] == [address]


def test_a_table_keeps_pipes_in_code_and_cells_that_have_no_heading(qtbot: QtBot) -> None:
    made = document("| a | b |\n|---|:-:|\n| `x | y` | `p \\| q` |\n| 1 | 2 | 3 |\n| 4 |\n")
    assert cells(tables(made)[0]) == [["a", "b", ""], ["x | y", "p | q", ""], ["1", "2", "3"], ["4", "", ""]]
    middle = tables(made)[0].cellAt(1, 1).firstCursorPosition().blockFormat().alignment()
    assert middle == Qt.AlignmentFlag.AlignHCenter
    assert words("`a | b` and a | b") == ["a", "|", "b", "and", "a", "|", "b"]


def test_indented_code_and_long_fences_are_code(qtbot: QtBot) -> None:
    made = document("text\n\n    code\n      more\n\nthen\n\n````md\n```\ninner\n```\n````\n\n~~~\n```\n~~~\n")
    assert [inside(frame) for frame in frames(made)] == ["code\n  more", "```\ninner\n```", "```"]


def test_quotations_keep_what_is_in_them(qtbot: QtBot) -> None:
    made = document("> said\n>\n> - item\n>\n> ```\n> code\n> ```\n>\n> > deeper\n\nend")
    assert lines("> said\n>\n> - item\n>\n> ```\n> code\n> ```\n>\n> > deeper\n\nend") == [
        "said",
        "item",
        "code",
        "deeper",
        "end",
    ]
    assert frames(made)[0].frameFormat().leftMargin() > 0
    assert block(made, "deeper").blockFormat().leftMargin() > block(made, "said").blockFormat().leftMargin() > 0


def test_code_is_coloured_and_whole_whatever_is_in_it(qtbot: QtBot) -> None:
    for language in ("python", "js", "nonsense", "", "\ud800", "html"):
        code = 'x = "😀 é" # 漢字\n\ty = `1` | 2  \n'
        made = document(f"```{language}\n{code}```\n")
        assert inside(frames(made)[0]) == code.removesuffix("\n")
    assert len({color for _, color in code_colors.colored("python", "def f(): pass", LIGHT.code_style)}) > 1


SAMPLES = [
    CODE + "\n" + TABLE + "\n" + CODE + CODE,
    "1. first\n\n   ```py\n   x\n   ```\n\n2. second\n\n- a\n  - b\n\n    c\n",
    "---\n\n- \n\ntext\n\n---\n***\n# Head\ntext **bold** and `code`\n\n> quote\n> more\n\n---\nHead\n===\n",
    "see [x]\n\n[x]: http://127.0.0.1/a\n\n$$\na\n- b\n$$\n\\[ x \\] end\n",
    "| a | b |\n|---|---|\n| 1 | 2 | 3 |\n\n    code\n\n- [ ] task\n- [x] done\n\n\n12. twelve",
]


@pytest.mark.parametrize("text", SAMPLES)
def test_a_growing_answer_looks_as_the_whole_one(text: str) -> None:
    grown = AnswerDocument()
    for end in range(1, len(text) + 1):
        grown.show_markdown(text[:end], LIGHT, last=end == len(text))
        if end % 5 == 0 and "[x]" not in text:
            assert grown.toHtml() == document(text[:end]).toHtml(), text[:end]
    assert grown.toHtml() == document(text).toHtml()
    grown.show_markdown("another", LIGHT)
    assert grown.toPlainText() == "another"


@pytest.mark.parametrize(
    "text",
    [
        "a paragraph\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\nbehind it",
        "one\n\n| a\n| b\n\nno table",
        "before\n\n$$\nx^2\n\ny\n$$\n\nbehind",
        "before\n\n\\[ x\n\na sentence behind it\n\n- one\n- two",
        "before\n\n\\[ x \\] is what a sentence says\n\nbehind",
        "---\n\n\n| a | b |\n|---|---|\n| 1 | 2 |\n",
        "one\n| a | b |\n|---|:--:|*c*\nno table",
        "one\n$$\nx^2\n$$ is a square",
        "a\n\n$$1. b\n1. $c$\n\n$$\n\n\\[\n",
        "- item\n  $$\n  x\n\nbehind $$ it",
    ],
)
def test_what_turns_out_to_be_something_else_looks_so_in_a_growing_answer(text: str) -> None:
    grown = AnswerDocument()
    for end in range(1, len(text) + 1):
        grown.show_markdown(text[:end], LIGHT)
        assert grown.toHtml() == document(text[:end]).toHtml(), text[:end]


def test_what_stands_behind_the_language_of_code_is_shown(qtbot: QtBot) -> None:
    made = document("```python title=a.py\nx = 1\n```")
    assert inside(frames(made)[0]).split("\n") == ["title=a.py", "x = 1"]


def test_a_formula_that_is_not_closed_takes_no_paragraph_behind_it(qtbot: QtBot) -> None:
    made = document("\\[ x = 1\n\n**bold** text")
    assert "bold text" in made.toPlainText()
    assert "**" not in made.toPlainText()


def test_only_the_last_block_of_a_growing_answer_is_written_again(qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []
    real = markdown.blocks
    monkeypatch.setattr(markdown, "blocks", lambda text, known: written.append(len(text)) or real(text, known))
    grown = AnswerDocument()
    text = "a paragraph\n\n" * 50
    for end in range(13, len(text), 13):
        grown.show_markdown(text[:end], LIGHT)
    assert max(written) < 60


def test_copying_an_answer_gives_its_markdown_to_the_letter(show: Show) -> None:
    text = "**b** \\(x\\)\n\n```py\n\tx  \n```\n\n| a | `b|c` |\n|---|---|\n| 1 | 2 | 3 |\n\n[^1]: $\\{a\\}$ &amp; <b>"
    shown = show(replies(text))
    answer = shown.answered("q")
    QTest.mouseClick(answer.foot.copy, Qt.MouseButton.LeftButton)
    assert QGuiApplication.clipboard().text() == text


@pytest.mark.parametrize(
    "text",
    ["a\x00b", "a\ud83d b", "a\u2028b", "a\u2029b", "a\ufdd0b\ufdd1c\ufdd2|d", "a\ufffcb", "\ufeffx", "\u202ex", "a\rb\r\nc"],
)
def test_what_is_no_text_is_shown_as_such(text: str) -> None:
    made = document(f"{text}\n\n```\n{text}\n```\n\nend")
    assert len(frames(made)) == 1
    assert "\ufffc" not in made.toPlainText()
    assert made.toPlainText().endswith("end")
    assert "|" not in made.toPlainText() or "|" in text


SLOW = [
    "|a" * 3000 + "|\n" + "|-" * 3000 + "|\n",
    TABLE + "| c | d |\n" * 1500,
    "> " * 400 + "x",
    "- " * 500 + "x",
    "- a\n" * 9000,
    "[" * 6000,
    "[a](" * 3000,
    "![](" * 3000,
    "*a **a " * 2000,
    "`" * 9001,
    "\\(" * 5000,
    "$" * 9001,
    "# a\n" * 1500,
    "```\n" + "a\n" * 9000,
    "x" * 49_000,
    "[a]: http://127.0.0.1/\n" * 1000,
]


@pytest.mark.parametrize("text", SLOW, ids=[repr(text[:8]) for text in SLOW])
def test_what_would_take_long_is_shown_as_it_is_written(text: str) -> None:
    made = document(f"before\n\n{text}\n\nbehind")
    assert made.blockCount() < 2100
    assert sum(table.rows() * table.columns() for table in tables(made)) <= markdown_parts.MAX_CELLS
    shown = made.toPlainText()
    assert shown.startswith("before")
    assert shown.rstrip().endswith("behind")
    assert shown.count("x") == text.count("x")
    assert "a" not in text or shown.count("a") >= text.count("a")
