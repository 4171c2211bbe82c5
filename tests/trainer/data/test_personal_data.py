"""Personal data is found in running text; what only looks like it stays."""

from typing import Any

import pytest

from finetune_api.data_preparation import Cleaning, Redaction
from finetune_trainer.data.cleaner import Cleaner, Tally
from finetune_trainer.data.examples import Example
from finetune_trainer.data.reading import Where
from finetune_trainer.data.redaction import KINDS, Redactor

FOUND = [
    ("Email", "write to Ann.O'Neil+x@mail.example.co.uk, please", "write to [Email], please"),
    ("Email", "from 'a@b.de' <a@b.de>, or jürgen@müller.de.", "from '[Email]' <[Email]>, or [Email]."),
    ("Phone", "call +49 (0)30 901820-12 or 030/9018201", "call [Phone] or [Phone]"),
    ("Phone", "555.123.4567, 06.12.34.56.78, 030.9018201, +49.30.9018201", "[Phone], [Phone], [Phone], [Phone]"),
    ("Phone", "2024-01-15 10:30: 030 9018201", "2024-01-15 10:30: [Phone]"),
    ("Phone", "call 030\u00a0901\u20118201", "call [Phone]"),
    ("CreditCard", "card 4111 1111 1111 1111 expired", "card [CreditCard] expired"),
    ("CreditCard", "4111-1111-1111-1111 123 and 4111 1111 1111 1111 12/26", "[CreditCard] 123 and [CreditCard] 12/26"),
    ("CreditCard", "card 2: 1 378282246310005, 3782 822463 10005 5", "card 2: 1 [CreditCard], [CreditCard] 5"),
    ("Iban", "to DE89 3704 0044 0532 0130 00 today", "to [Iban] today"),
    ("Iban", "to BE68 5390 0754 7034 then text", "to [Iban] then text"),
    ("Iban", "es9121000418450200051332, NO93 8601 1117 947 bank", "[Iban], [Iban] bank"),
    ("Iban", "DE89370400440532013000 BE68539007547034", "[Iban] [Iban]"),
    ("IpAddress", "from 10.0.0.7 and fe80::1, at 12:30", "from [IpAddress] and [IpAddress], at 12:30"),
    (
        "IpAddress",
        "10.0.0.7:8080, 10.0.0.7: down, ip:10.0.0.7.",
        "[IpAddress]:8080, [IpAddress]: down, ip:[IpAddress].",
    ),
    ("IpAddress", "[2001:db8::7]:443 fe80::1: down ::ffff:10.0.0.1", "[[IpAddress]]:443 [IpAddress]: down [IpAddress]"),
]
LOOKS_LIKE_IT = [
    ("Email", "it is @home or a@b, npm i react@18.2.0"),
    ("Phone", "order 12345678, version 1.2.3, 3.141592653, EUR 1234567.89"),
    ("Phone", "2024-01-15 10:30:00, 15.01.2024 10:30, 2024-01-15 2024-01-16"),
    ("Phone", "Windows 10.0.19045.3570, Chrome/120.0.6099.109, 192.168.100.200"),
    ("CreditCard", "card 4111 1111 1111 1112 expired, 0000 0000 0000 0000, at 1700000000008 ms"),
    ("Iban", "to DE88 3704 0044 0532 0130 00 today"),
    (
        "IpAddress",
        "in 300.1.1.1 and 1.2.3, OID 1.3.6.1.4.1, v1.2.3.4, version 1.2.3.4, Chrome/120.0.0.0, a-1.2.3.4.tar",
    ),
    ("IpAddress", "std::vector, A::B, f :: Int, 12:30:45, 00:1a:2b:3c:4d:5e"),
]


@pytest.mark.parametrize(("kind", "text", "expected"), FOUND)
def test_personal_data_is_taken_out(kind: Any, text: str, expected: str) -> None:
    assert Redactor(Redaction(kinds=[kind]))(text) == expected


@pytest.mark.parametrize(("kind", "text"), LOOKS_LIKE_IT)
def test_what_only_looks_like_it_stays(kind: Any, text: str) -> None:
    assert Redactor(Redaction(kinds=[kind]))(text) == text


def test_nothing_is_left_to_redact() -> None:
    redactor = Redactor(Redaction.model_validate({"kinds": [*KINDS], "patterns": {"Before": r"(?=zz)"}}))
    once = redactor(" ".join(text for _, text, _ in FOUND))
    assert redactor(once) == once


def redacted(content: Any, **example: Any) -> Example | None:
    cleaner = Cleaner(Cleaning(redact=Redaction(kinds=["Email"])))
    return cleaner.clean(Example(content, Where("t", 1), **example), Tally())


def test_a_text_that_is_to_be_written_is_redacted_too() -> None:
    assert redacted("who wrote", target="a@b.de wrote").target == "[Email] wrote"
    answers = redacted({"prompt": "who"}, target={"name": "a@b.de", "id": "c@d.de"})
    assert answers.target == {"name": "[Email]", "id": "[Email]"}, "columns that rewards read"
    both = redacted(("from a@b.de", "to c@d.de"))
    assert both.content == ("from [Email]", "to [Email]")


def test_every_value_that_a_call_is_given_is_redacted_and_names_stay() -> None:
    def turns(value: str) -> list[dict[str, Any]]:
        call = {"name": "send", "arguments": {"name": value, "to": [{"id": value}]}}
        asking = {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": call}]}
        return [{"role": "user", "name": "a@b.de", "content": f"mail {value}"}, asking]

    chat = {"turns": turns("a@b.de"), "tools": [{"type": "function", "function": {"name": "send"}}]}
    assert redacted(chat).content == {**chat, "turns": turns("[Email]")}


def test_a_pair_that_redaction_makes_alike_teaches_nothing_and_is_left_out() -> None:
    assert redacted({"prompt": "who?", "chosen": "a@b.de", "rejected": "c@d.de"}) is None
    kept = redacted({"prompt": "who?", "chosen": "a@b.de", "rejected": "nobody"})
    assert kept.content == {"prompt": "who?", "chosen": "[Email]", "rejected": "nobody"}
