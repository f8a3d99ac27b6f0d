"""The tiny tokenizer: every text, one token per number, no way to a control token."""

from hypothesis import given
from hypothesis import strategies as st

from agentrl.dialect.tiny import CONTROL, TinyDialect
from agentrl.message import Text, call
from agentrl.plaintext import plain_text_of
from agentrl.trainers.tiny.tokenizer import constant_runs, make_tokenizer

TEXTS = [f"What is the price of {i}, times {n}?" for i in ("pear", "fig", "lime") for n in range(12)]
TEXTS += [f'print(price("{i}"))' for i in ("pear", "fig", "lime")] * 9
TOKENIZER = make_tokenizer(TEXTS)
PLAIN = plain_text_of(TOKENIZER)
CONTROL_IDS = {TOKENIZER.convert_tokens_to_ids(name) for name in CONTROL}
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@given(
    ANY_TEXT | st.lists(st.sampled_from([*TEXTS, *CONTROL, "007", "12345", "-4.50", "pearl"])).map("".join)
)
def test_every_text_comes_back_and_never_as_a_control_token(text: str) -> None:
    ids = PLAIN.encode(text)
    assert PLAIN.decode(ids) == text
    assert CONTROL_IDS.isdisjoint(ids)


def test_each_number_of_the_range_is_one_token() -> None:
    assert all(len(PLAIN.encode(str(n))) == 1 for n in range(100))
    wider = plain_text_of(make_tokenizer([f"{n} of 250" for n in range(0, 251, 5)]))
    assert all(len(wider.encode(str(n))) == 1 for n in range(251))


def test_long_numbers_are_cut_from_the_right() -> None:
    assert [PLAIN.decode([i]) for i in PLAIN.encode("1234")] == ["12", "34"]
    assert [PLAIN.decode([i]) for i in PLAIN.encode("123")] == ["1", "23"]


def test_a_word_is_the_same_token_wherever_it_stands() -> None:
    pear = set(PLAIN.encode("pear"))
    assert len(pear) == 1
    assert pear <= set(PLAIN.encode("What is the price of pear, times 3?"))
    assert pear <= set(PLAIN.encode('print(price("pear"))'))


def test_what_always_stands_together_is_one_token() -> None:
    assert len(PLAIN.encode("What is the ")) == 1
    assert "of pear" not in constant_runs(TEXTS)


def test_a_prompt_is_short() -> None:
    dialect = TinyDialect(TOKENIZER)
    assert len(dialect.prompt("", (), [Text(TEXTS[0])]).ids) <= 12
    assert len(dialect.render(call("python", code='print(price("pear"))'), ())) <= 14
