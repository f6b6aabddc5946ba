"""From a recipe's text to a checked recipe.

Owns the form of the YAML (docs/recipes.md). Refuses with InvalidRecipe, which
names every bad field as a path in the text ("recipe.yaml: spec.output_dir").
"""

import difflib
import functools
from collections.abc import Mapping, Sequence
from typing import Any

from svckit.recipes.recipe import Range, Recipe, stand_ins
from svckit.recipes.spec_paths import (
    FIELDS,
    Kind,
    covers,
    merged,
    unknown_path,
    value_at,
    with_value,
    without,
)
from svckit.recipes.yaml_text import BadYaml, read_yaml
from svckit.refusal import InvalidRequest, Violation
from svckit.spec import Backend, DataSource, InvalidSpec, JobSpec, text_rules

PREFIX = "recipe.yaml"
DESCRIPTION_CHARACTERS_MAX = 200

_KEYS = ("description", "required", "overridable", "spec")
_DATA = ("train_data", "eval_data")
_NUMBERS = (Kind.NUMBER, Kind.WHOLE_NUMBER)


class InvalidRecipe(InvalidRequest):
    """A recipe that cannot be used as it is written: INVALID_ARGUMENT."""


@functools.lru_cache(maxsize=256)
def parse_recipe(text: str) -> Recipe:
    """The recipe that a text holds. Raises InvalidRecipe with every bad field."""
    reader = _Reader()
    try:
        recipe = reader.recipe(read_yaml(text))
    except BadYaml as error:
        reader.note("", str(error))
    else:
        if recipe is not None and not reader.found:
            return recipe
    raise InvalidRecipe.of(reader.found)


class _Reader:
    """Reads one recipe, and collects what is wrong with it."""

    def __init__(self) -> None:
        self.found: list[Violation] = []

    def note(self, path: str, description: str) -> None:
        """Something is wrong there."""
        where = f"{PREFIX}: {path[:200]}" if path else PREFIX
        self.found.append(Violation(where, description))

    def recipe(self, tree: object) -> Recipe | None:
        """The recipe; None where something that was noted leaves nothing to make it of."""
        if not isinstance(tree, Mapping):
            self.note("", f"must be a mapping with {', '.join(_KEYS)}")
            return None
        self._refuse_unknown_keys(tree)
        description = self._description(tree.get("description"))
        required = self._required(tree.get("required"))
        overridable = self._overridable(tree.get("overridable"))
        self._refuse_overlaps(required, overridable)
        values = self._spec_values(tree.get("spec"))
        if values is None:
            return None
        patterns = self._patterns(values, [*required, *overridable])
        values = {name: value for name, value in values.items() if not _has_pattern(value)}
        filled = self._filled(values, required, overridable)
        if filled is None:
            return None
        for path in required:
            filled = without(filled, path)
        filled.update({part: [pattern] for part, pattern in patterns.items()})
        return Recipe(description, required, overridable, values, patterns, filled)

    def _refuse_unknown_keys(self, tree: Mapping[str, object]) -> None:
        for key in sorted(tree.keys() - set(_KEYS)):
            close = difflib.get_close_matches(key, _KEYS, n=1)
            known = f"did you mean '{close[0]}'?" if close else f"there are {', '.join(_KEYS)}"
            self.note(key, f"unknown key; {known}")

    def _description(self, value: object) -> str:
        if not isinstance(value, str) or not value.strip():
            self.note("description", "is required: one line for people")
            return ""
        text, most = value.strip(), DESCRIPTION_CHARACTERS_MAX
        if len(text) > most:
            self.note("description", f"must be at most {most} characters long; it has {len(text)}")
            return ""
        try:
            return text_rules.without_control_characters(text)
        except ValueError as error:
            self.note("description", f"must be one line: {error}")
            return ""

    def _required(self, value: object) -> tuple[str, ...]:
        if not isinstance(value, list | None):
            self.note("required", "must be a list of fields, as in [output_dir]")
            return ()
        paths: list[str] = []
        for index, path in enumerate(value or ()):
            place = f"required[{index}]"
            if not isinstance(path, str) or path not in FIELDS:
                self.note(place, f"{path!r:.80} {unknown_path(str(path))}")
            elif FIELDS[path] is Kind.PART and path != "model":
                self.note(place, f"'{path}' has defaults; name the field of it that is required")
            elif any(covers(one, path) or covers(path, one) for one in paths):
                self.note(place, f"'{path}' is named twice")
            else:
                paths.append(path)
        return tuple(paths)

    def _overridable(self, value: object) -> dict[str, Range]:
        if not isinstance(value, Mapping | None):
            self.note("overridable", "must be a mapping of fields to ranges, or to nothing")
            return {}
        ranges: dict[str, Range] = {}
        for path, told in (value or {}).items():
            if path in FIELDS:
                ranges[path] = self._range(path, told)
            else:
                self.note(f"overridable.{path}", unknown_path(path))
        return ranges

    def _range(self, path: str, told: object) -> Range:
        place = f"overridable.{path}"
        if not isinstance(told, Mapping | None):
            self.note(place, "must be nothing, or {minimum: ..., maximum: ...}")
            return Range()
        bounds = told or {}
        for key in sorted(bounds.keys() - {"minimum", "maximum"}):
            self.note(f"{place}.{key}", "unknown key; there are minimum and maximum")
        if bounds and FIELDS[path] not in _NUMBERS:
            self.note(place, "cannot have a range: it is no number")
            return Range()
        minimum = self._bound(path, "minimum", bounds.get("minimum"))
        maximum = self._bound(path, "maximum", bounds.get("maximum"))
        if minimum is not None and maximum is not None and minimum > maximum:
            self.note(place, f"the minimum, {minimum}, is above the maximum, {maximum}")
            return Range()
        return Range(minimum, maximum)

    def _bound(self, path: str, which: str, value: object) -> float | None:
        """A bound has to be a value that the spec itself would take."""
        if value is None:
            return None
        place = f"overridable.{path}.{which}"
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.note(place, f"must be a number; got {value!r:.80}")
            return None
        values = with_value(stand_ins(("model", "train_data", "output_dir")), path, value)
        if covers("swift", path):
            values["backend"] = Backend.SWIFT
        told = [one.description for one in _violations(values) if one.field == path]
        if told:
            self.note(place, f"the spec does not allow it: {told[0]}")
            return None
        return value

    def _refuse_overlaps(self, required: Sequence[str], overridable: Mapping[str, Range]) -> None:
        for path in overridable:
            for one in required:
                if covers(one, path) or covers(path, one):
                    self.note(f"overridable.{path}", f"'{one}' is required, and cannot be both")

    def _spec_values(self, value: object) -> Mapping[str, Any] | None:
        if isinstance(value, Mapping):
            return value
        told = "is required" if value is None else "must be a mapping of field names to values"
        self.note("spec", told)
        return None

    def _patterns(
        self, values: Mapping[str, Any], open_paths: Sequence[str]
    ) -> dict[str, Mapping[str, Any]]:
        """What entries without a source say of the caller's sources, by data part."""
        patterns: dict[str, Mapping[str, Any]] = {}
        for part in (one for one in _DATA if _has_pattern(values.get(one))):
            entries, place = values[part], f"spec.{part}"
            if len(entries) != 1:
                self.note(place, "an entry without a source must stand alone")
            elif part not in open_paths:
                self.note(place, f"an entry without a source needs {part} to be the caller's")
            else:
                patterns[part] = self._pattern(f"{place}[0]", entries[0])
        return patterns

    def _pattern(self, place: str, entry: Mapping[str, Any]) -> Mapping[str, Any]:
        values = stand_ins(("model", "output_dir"))
        values["train_data"] = [{**entry, "source": "stand/in"}]
        wrong = _violations(values)
        for one in wrong:
            self.note(one.field.replace("train_data[0]", place), one.description)
        if wrong:
            return {}
        source = DataSource.model_validate(values["train_data"][0])
        return source.model_dump(exclude_unset=True, exclude={"source"})

    def _filled(
        self, values: Mapping[str, Any], required: Sequence[str], overridable: Mapping[str, Range]
    ) -> dict[str, Any] | None:
        """The spec with every default filled in, stand-ins included."""
        for path in required:
            if value_at(values, path) is not None:
                self.note(f"spec.{path}", "is required of the caller, so it cannot stand here")
        try:
            spec = JobSpec.from_mapping(merged(stand_ins(required), values), f"{PREFIX}: spec")
        except InvalidSpec as invalid:
            self.found += [_with_way_out(one) for one in invalid.violations]
            return None
        filled = spec.model_dump()
        for path, allowed in overridable.items():
            value = value_at(filled, path)
            if FIELDS[path] in _NUMBERS and value is not None and not allowed.has(value):
                told = f"without an override it is {value}; overridable allows {allowed}"
                self.note(f"spec.{path}", told)
        self._refuse_useless_swift(spec.backend, required, overridable)
        return filled

    def _refuse_useless_swift(
        self, backend: Backend, required: Sequence[str], overridable: Mapping[str, Range]
    ) -> None:
        if backend is Backend.SWIFT or "backend" in (*required, *overridable):
            return
        places = {path: f"required[{index}]" for index, path in enumerate(required)}
        places |= {path: f"overridable.{path}" for path in overridable}
        for path, place in places.items():
            if covers("swift", path):
                self.note(place, f"is only for the swift backend; this is {backend.short_name}")


def _violations(values: Mapping[str, Any]) -> Sequence[Violation]:
    """What no spec may be; paths without a prefix."""
    try:
        JobSpec.from_mapping(values, "")
    except InvalidSpec as invalid:
        return invalid.violations
    return ()


def _has_pattern(entries: object) -> bool:
    return isinstance(entries, list) and any(
        isinstance(entry, Mapping) and "source" not in entry for entry in entries
    )


def _with_way_out(violation: Violation) -> Violation:
    if violation.description != "is required":
        return violation
    return Violation(violation.field, "is required: give it here, or name it under required")
