"""Tables: numbers to four digits, aligned text, and HTML that cannot be broken out of."""

import pytest
import sympy

from lib.show import claims_table, formula_table, table

ROWS = [
    {"device": "A100 & <friends>", "ridge": 153.0161, "batch": 166, "bytes": 134_217_728.0},
    {"device": "H100", "ridge": 0.0033554, "batch": 4096, "bytes": 2.5},
]


def test_numbers_have_four_digits_and_thousands_their_commas():
    assert table(ROWS).cells == [
        ["A100 & <friends>", "153", "166", "134,217,728"],
        ["H100", "0.003355", "4,096", "2.5"],
    ]


def test_text_is_aligned_numbers_to_the_right():
    assert repr(table(ROWS)) == (
        "device               ridge  batch        bytes\n"
        "A100 & <friends>       153    166  134,217,728\n"
        "H100              0.003355  4,096          2.5"
    )


def test_html_escapes_what_it_shows():
    html = table(ROWS)._repr_html_()
    assert "A100 &amp; &lt;friends&gt;" in html
    assert "<friends>" not in html
    assert html.count("<tr>") == 3
    assert '<td style="text-align: right">166</td>' in html


def test_truth_values_are_words():
    assert table([{"fits": True}]).cells == [["True"]]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "at least one row, got none"),
        ([{"a": 1}, {"b": 1}], r"row 2 has \['b'\], expected \['a'\]"),
        ([{"a": 1, "b": 2}, {"b": 2, "a": 1}], "row 2 has"),
    ],
)
def test_rows_that_do_not_fit_are_refused(rows, message):
    with pytest.raises(ValueError, match=message):
        table(rows)


def test_claims_have_their_three_columns():
    claims = claims_table([("7.6.2", "256", "51.2")])
    assert claims.columns == ["section", "it says", "counted again"]
    assert claims.cells == [["7.6.2", "256", "51.2"]]


def test_formulas_are_factored_and_words_stay_words():
    n, d = sympy.symbols("n d", positive=True)
    shown = formula_table([{"operator": "map", "bytes": 2 * n * d + 2 * d**2}])
    assert shown.data == (
        r"\begin{array}{ll} \text{operator} & \text{bytes} \\ \hline "
        r"\text{map} & 2 d \left(d + n\right) \end{array}"
    )
    with pytest.raises(ValueError, match="at least one row"):
        formula_table([])
