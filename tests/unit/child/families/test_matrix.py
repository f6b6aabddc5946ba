"""docs/models.md says what the tests of this folder hold true."""

from tests.unit.child.families.matrix import TARGET, document


def test_the_page_is_what_the_tests_say() -> None:
    assert TARGET.read_text(encoding="utf-8") == document(), "run `make models`"
