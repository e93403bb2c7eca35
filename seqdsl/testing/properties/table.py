"""The table of properties: names, meanings, cases, and where they do not apply."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from seqdsl.testing.cases import VALUES, Case, Sizes
from seqdsl.testing.properties import (
    adjoints,
    excuses,
    gradients,
    modules,
    strategies,
    streaming,
    values,
)
from seqdsl.testing.subject import Subject


@dataclass(frozen=True)
class Property:
    """Something that must hold of every compiled layer.

    `check` raises (`Broken`, or whatever the layer raises) where it does not. `excused`
    says why a layer need not have it, or None. `cost` divides the number of examples.
    """

    name: str
    meaning: str
    check: Callable[[Subject, Case], None]
    cases: Sizes
    excused: Callable[[Subject], str | None]
    cost: int = 1


_plain = Sizes()
_small = Sizes(most=4, rows=2)
_cut = Sizes(most=7, pieces=True)
_small_cut = Sizes(most=5, pieces=True, rows=2)
_packed = Sizes(most=7, segments=True)
_small_packed = Sizes(most=5, segments=True, rows=2)
_packed_cut = Sizes(most=7, segments=True, pieces=True)
_empty = Sizes(least=0, most=0)
_one = Sizes(least=1, most=1, rows=1)
_two = Sizes(least=2, most=6)
_many = Sizes(most=40, pieces=True, rows=2)
_many_packed = Sizes(most=40, segments=True, rows=2)
_long = Sizes(least=200, most=200, rows=1)

PROPERTIES: tuple[Property, ...] = (
    Property(
        "forward_equals_reference",
        "a whole sequence gives what the language says",
        values.forward_equals_reference,
        Sizes(values=VALUES),
        excuses.never,
    ),
    Property(
        "one_step_is_a_sequence",
        "a sequence of one step gives what the language says",
        values.forward_equals_reference,
        _one,
        excuses.never,
        cost=2,
    ),
    Property(
        "no_steps",
        "a sequence without steps gives outputs without steps",
        values.no_steps,
        _empty,
        excuses.never,
        cost=4,
    ),
    Property(
        "pieces_equal_whole",
        "a sequence in pieces, with the state passed on, gives the same",
        streaming.pieces_equal_whole,
        _cut,
        excuses.streams,
    ),
    Property(
        "steps_equal_forward",
        "step by step gives the same as at once",
        streaming.steps_equal_forward,
        _plain,
        excuses.streams,
    ),
    Property(
        "prefill_then_steps",
        "a first half at once and the rest by steps gives the same",
        streaming.prefill_then_steps,
        _plain,
        excuses.streams,
    ),
    Property(
        "steps_then_a_piece",
        "a step and then the rest at once gives the same",
        streaming.steps_then_a_piece,
        _plain,
        excuses.streams,
    ),
    Property(
        "state_is_a_value",
        "a state is not changed by use, and can be stored",
        streaming.state_is_a_value,
        _two,
        excuses.streams,
        cost=2,
    ),
    Property(
        "segments_equal_reference",
        "packed sequences give what the language says",
        values.segments_equal_reference,
        _packed,
        excuses.packs,
    ),
    Property(
        "segments_equal_separate",
        "packed sequences give the same as each alone",
        streaming.segments_equal_separate,
        _packed,
        excuses.separable,
    ),
    Property(
        "segments_in_pieces",
        "packed sequences in pieces give the same as at once",
        streaming.segments_in_pieces,
        _packed_cut,
        excuses.packs_streaming,
    ),
    Property(
        "rows_are_independent",
        "a row of the batch gives the same alone",
        values.rows_are_independent,
        _plain,
        excuses.separable,
    ),
    Property(
        "causal",
        "outputs of a layer that streams do not depend on later inputs",
        values.causal,
        _two,
        excuses.streams,
    ),
    Property(
        "a_prefix_is_a_prefix",
        "the first steps of a layer that streams give the same alone",
        values.a_prefix_is_a_prefix,
        _two,
        excuses.streams,
        cost=2,
    ),
    Property(
        "refuses_to_stream",
        "only a layer that reads later steps refuses to stream, and says why",
        streaming.refuses_to_stream,
        _one,
        excuses.always,
        cost=4,
    ),
    Property(
        "deterministic",
        "the same call gives the same numbers",
        values.deterministic,
        _small,
        excuses.never,
        cost=2,
    ),
    Property(
        "arguments_are_left_alone",
        "a call changes neither inputs nor parameters",
        values.arguments_are_left_alone,
        _small,
        excuses.never,
        cost=2,
    ),
    Property(
        "strides_do_not_matter",
        "inputs may be views with any strides",
        values.strides_do_not_matter,
        _small,
        excuses.never,
        cost=2,
    ),
    Property(
        "bad_calls_are_refused",
        "a wrong or missing input is a CallError that names it",
        values.bad_calls_are_refused,
        _one,
        excuses.always,
        cost=4,
    ),
    Property(
        "gradients_equal_reference",
        "gradients of inputs and parameters are those of the language",
        gradients.gradients_equal_reference,
        _small,
        excuses.never,
        cost=2,
    ),
    Property(
        "packed_gradients_equal_reference",
        "gradients of packed sequences are those of the language",
        gradients.gradients_equal_reference,
        _small_packed,
        excuses.packs,
        cost=2,
    ),
    Property(
        "piece_gradients_equal_whole",
        "gradients flow through the state between pieces",
        gradients.piece_gradients_equal_whole,
        _small_cut,
        excuses.streams,
        cost=2,
    ),
    Property(
        "step_gradients_equal_whole",
        "gradients flow through the state between steps",
        gradients.step_gradients_equal_whole,
        _small,
        excuses.streams,
        cost=2,
    ),
    Property(
        "finite_differences",
        "gradients are the slopes of the outputs",
        gradients.finite_differences,
        _small,
        excuses.smooth,
        cost=2,
    ),
    Property(
        "double_backward_equals_reference",
        "gradients of gradients are those of the language",
        gradients.double_backward_equals_reference,
        _small,
        excuses.never,
        cost=4,
    ),
    Property(
        "adjoint_equals_autograd",
        "the adjoint model computes the gradients of the module",
        adjoints.adjoint_equals_autograd,
        Sizes(most=4, rows=2, segments=None),
        excuses.differentiable,
        cost=4,
    ),
    Property(
        "state_dict_round_trip",
        "the state dict has the declared keys and restores the layer",
        modules.state_dict_round_trip,
        _small,
        excuses.never,
        cost=4,
    ),
    Property(
        "copies_are_equal",
        "pickled and deep-copied modules give the same and are their own",
        modules.copies_are_equal,
        _small,
        excuses.never,
        cost=4,
    ),
    Property(
        "single_precision",
        "float32 errs at most 64 times as much as rounding its arguments does",
        modules.single_precision,
        _small,
        excuses.continuous,
        cost=2,
    ),
    Property(
        "half_precision",
        "bfloat16 errs at most 64 times as much as rounding its arguments does",
        modules.half_precision,
        _small,
        excuses.continuous,
        cost=2,
    ),
    Property(
        "long_sequences_stay_finite",
        "what is finite step by step is finite at once, over 200 steps",
        streaming.long_sequences_stay_finite,
        _long,
        excuses.streams,
        cost=8,
    ),
    Property(
        "strategies_agree",
        "every way to run its recurrences gives what the language says",
        strategies.strategies_agree,
        _many,
        strategies.one_way,
        cost=6,
    ),
    Property(
        "strategies_agree_packed",
        "every way to run its recurrences gives packed sequences what the language says",
        strategies.strategies_agree_packed,
        _many_packed,
        strategies.one_way_or_unpacked,
        cost=6,
    ),
    Property(
        "strategies_agree_in_gradients",
        "every way to run its recurrences has the gradients of the language",
        strategies.strategies_agree_in_gradients,
        _many_packed,
        strategies.one_way_or_unpacked,
        cost=6,
    ),
)
