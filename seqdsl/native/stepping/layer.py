"""A layer's step as blocks of equations, calls of sub-layers and steps of repeats."""

from __future__ import annotations

from collections.abc import Sequence

from seqdsl.backends.mlir.supported import allowed
from seqdsl.backends.torch.streaming import Entry
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.bind import Bound, bind_instance
from seqdsl.ir.types import BATCH, TIME
from seqdsl.ir.walk import subtree
from seqdsl.native.stepping.joined import joined
from seqdsl.native.stepping.places import MOST_TAPS, Places
from seqdsl.native.stepping.plan import BlockCall, StepRefused
from seqdsl.native.stepping.read import placed, readers_of
from seqdsl.native.stepping.slots import Slot
from seqdsl.schedule.block import Key, in_block, key_of, make_block, tapped
from seqdsl.schedule.make import plan_step
from seqdsl.schedule.plan import Assign, Call, DepthLoop, Step
from seqdsl.schedule.sized import cast


class Layer:
    """One call of a layer: the equations that are not yet in a block wait in `pending`.

    `target` says where a value has to go.
    """

    def __init__(self, at: Places) -> None:
        self.at = at
        self.pending: list[tuple[str, ir.Node, tuple[str, ...]]] = []
        self.target: dict[str, Slot] = {}
        self.readers = readers_of(at.flat)

    def run(self, outermost: bool = False) -> list[Slot]:
        """All steps; the slots of the outputs."""
        self._steps(plan_step(self.at.flat).steps)
        outputs = [
            self._output(i, o, outermost) for i, o in enumerate(self.at.flat.outputs)
        ]
        self._keep()
        self._time()
        self.flush()
        return [s if s is not None else self.at.env["ref", n] for n, s in outputs]

    def _steps(self, steps: Sequence[Step]) -> None:
        for step in steps:
            match step:
                case Assign(equation=equation):
                    self._assign(equation)
                case Call(call=site):
                    self._call(site)
                case DepthLoop():
                    self._repeat(step)
                case _:
                    raise StepRefused("a loop along time stands in a step")

    # ---- Equations

    def _assign(self, equation: ir.Equation) -> None:
        name, expr = equation.name, equation.expr
        state = self.at.flat.state.get(name)
        dims = expr.type.dims if state is None else state.type.dims
        if state is not None:
            expr = cast(expr, state.type.dtype)
        if self._is_alias(name, expr, dims):
            return
        expr = joined(self, name, expr)
        if not in_block(expr, allowed):
            raise StepRefused(f"no kernel has a form of `{name}`")
        if isinstance(expr, ir.Conv):
            if int(self.at.sizes[expr.taps[0]]) > MOST_TAPS:
                raise StepRefused(f"`{name}` looks back too far")
            self.pending.append((f"{name}.taken", expr.arg, expr.arg.type.dims))
            expr = tapped(equation, self.at.sizes)
        elif any(isinstance(n, ir.Conv) for n in subtree(expr)):
            raise StepRefused(f"no kernel has a form of `{name}`")
        self._note_tables(expr)
        self.pending.append((name, expr, dims))
        entry = self.at.entry(name, "carry")
        if entry is not None:
            self.target[name] = self.at.after(entry, 1, 0)

    def _is_alias(self, name: str, expr: ir.Node, dims: tuple[str, ...]) -> bool:
        """Whether an equation is another name of what is in memory already."""
        if not isinstance(expr, ir.Ref | ir.Result) or expr.type.dims != dims:
            return False
        slot = self.at.env.get(key_of(expr))
        if slot is None or self.at.entry(name, "carry") is not None:
            return False
        self.at.env["ref", name] = slot
        return True

    def _note_tables(self, expr: ir.Node) -> None:
        """A look-up reads an input, whose values can be checked."""
        for node in subtree(expr):
            if isinstance(node, ir.Gather) and isinstance(node.index, ir.Ref):
                slot = self.at.env.get(key_of(node.index))
                if slot is None or not isinstance(slot.at, int):
                    raise StepRefused("a table is read at a computed place")
                if self.at.work.store.bases[slot.at].kind != "input":
                    raise StepRefused("a table is read at a computed place")
                extent = int(self.at.sizes[node.dim])
                known = self.at.work.checked.get(slot.at, extent)
                self.at.work.checked[slot.at] = min(known, extent)

    def flush(self) -> None:
        """Makes a block of all pending equations."""
        if not self.pending:
            return
        names = [n for n, _, _ in self.pending]
        inside = set(names)
        wanted = [
            n
            for n in names
            if n in self.target or self.readers.get(n, frozenset()) - inside
        ]
        shared = {k: False for k in self.at.shared()}
        block = make_block(
            f"{self.at.model.name}_step_{wanted[0] if wanted else names[0]}",
            self.pending,
            wanted,
            shared,
            self.at.sizes,
        )
        inputs = tuple(p for k in block.reads for p in self.at.look(k).parts())
        types = {n: (e, d) for n, e, d in self.pending}
        outputs: list[Slot] = []
        for name in wanted:
            expr, dims = types[name]
            slot = self.target.get(name)
            if slot is None:
                slot = self.at.work.store.fixed(self.at.extents(dims), expr.type.dtype)
            outputs += slot.parts()
            self.at.env["ref", name] = slot
        self.pending, self.target = [], {}
        if wanted:
            self.at.work.calls.append(BlockCall(block, inputs, tuple(outputs)))

    # ---- What is kept for the next step

    def _keep(self) -> None:
        """Rows of earlier values move up, those of this step come last."""
        for entry in self.at.memory.entries:
            if entry.scope != tuple(self.at.depth) or entry.kind not in ("lag", "conv"):
                continue
            rows = self.at.rows(entry)
            if rows == 0:
                raise StepRefused("an entry of the state is empty")
            source = self._source(entry)
            for back in range(1, rows + 1):
                name = f"{entry.key}.keep{back}"
                expr = build.shift(source, TIME, 1 - back)
                self.force(
                    name, expr, entry.type.dims, self.at.after(entry, back, rows)
                )

    def _source(self, entry: Entry) -> ir.Ref | ir.Result:
        match entry.source:
            case ("conv", name):
                return build.ref(f"{name}.taken", entry.type)
            case ("result", call, output):
                if str(call) not in self.at.flat.call:
                    raise StepRefused("a result of an inlined layer is kept")
                return ir.Result(call=str(call), output=str(output), type=entry.type)
            case _:
                return build.ref(str(entry.source[1]), entry.type)

    def force(
        self, name: str, expr: ir.Node, dims: tuple[str, ...], slot: Slot
    ) -> None:
        """Has an equation computed into `slot`, whoever reads it."""
        self.pending.append((name, expr, dims))
        self.target[name] = slot

    def _time(self) -> None:
        """Positions go on, segments stay."""
        for entry in self.at.memory.entries:
            if entry.kind == "position":
                now = build.position(TIME, axis=True)
                after = build.map_("add", now, build.const(1))
                self.force("t.next", after, (), self.at.after(entry, 1, 0))
            if entry.kind == "segment":
                self.at.given_entry(entry)
                self.at.work.after[self.at.path(entry)] = None

    # ---- Outputs

    def _output(
        self, number: int, output: ir.Output, outermost: bool
    ) -> tuple[str, Slot | None]:
        """An output's name, or its slot where that is known already."""
        expr, type_ = output.expr, output.expr.type
        if not outermost and isinstance(expr, ir.Ref | ir.Result):
            key = key_of(expr)
            if key in self.at.env:
                return "", self.at.env[key]
            if isinstance(expr, ir.Ref) and any(
                n == expr.name for n, _, _ in self.pending
            ):
                return expr.name, None
        expr = joined(self, f"output.{output.name}", expr)
        if not in_block(expr, allowed) or any(
            isinstance(n, ir.Conv) for n in subtree(expr)
        ):
            raise StepRefused(f"no kernel has a form of the output {output.name}")
        self._note_tables(expr)
        name, store = f"output.{output.name}", self.at.work.store
        dims = self.at.extents(type_.dims)
        if outermost:
            if BATCH not in type_.axes and TIME not in type_.axes:
                raise StepRefused("an output is the same for all sequences")
            slot = store.given("output", (number,), dims, type_.dtype, True)
        else:
            slot = store.fixed(dims, type_.dtype)
        self.force(name, expr, type_.dims, slot)
        return name, slot

    # ---- Sub-layers and repeats

    def _call(self, site: ir.CallSite) -> None:
        instance = self.at.flat.instance[site.instance]
        callee, ours = instance.model, dict(site.dims)
        names: dict[str, Key] = {}
        for wanted in callee.inputs:
            node = dict(site.args)[wanted.name]
            dims = tuple(ours.get(d, d) for d in wanted.type.dims)
            same = node.type.dims == dims and node.type.dtype == wanted.type.dtype
            if same and isinstance(node, ir.Ref | ir.Result):
                names[wanted.name] = key_of(node)
                continue
            node = joined(self, site.name, node)
            if not in_block(node, allowed):
                raise StepRefused(f"no kernel has a form of an argument of {site.name}")
            node = cast(node, wanted.type.dtype)
            self._note_tables(node)
            name = f"{site.name}.{wanted.name}"
            slot = self.at.work.store.fixed(self.at.extents(dims), wanted.type.dtype)
            self.force(name, node, dims, slot)
            names[wanted.name] = ("ref", name)
        self.flush()
        at, env = self.at, {("ref", n): self.at.look(k) for n, k in names.items()}
        sizes = {n: v for n, v in at.sizes.items() if isinstance(v, int)}
        inner = Places(
            at.work,
            callee,
            bind_instance(instance, Bound(sizes, at.bound.options)),
            (*at.where, *at.filled(instance.name)),
            (*at.state, site.name, *(at.depth[a] - 1 for a in site.scope)),
            {**env},
        )
        for output, slot in zip(callee.outputs, Layer(inner).run(), strict=True):
            self.at.env["result", site.name, output.name] = slot

    def _repeat(self, loop: DepthLoop) -> None:
        repeat = loop.repeat
        if repeat.condition is not None or isinstance(repeat.count, ir.Base):
            raise StepRefused("a repeat stops when its values say so")
        axis, count = repeat.axis, self.at.bound.whole(repeat.count)
        carried = [
            s
            for s in self.at.flat.states
            if s.name in loop.carried and axis in s.carried
        ]
        for state in carried:
            self._begin(axis, state)
        self.flush()
        for state in carried:
            self.at.steps_of[axis, "ref", state.name] = [
                self.at.env["ref", f"{state.name}.first"]
            ]
        for step in range(1, count + 1):
            self.at.depth[axis] = step
            self._steps(loop.body)
            self._keep()
            self.flush()
            for state in carried:
                slot = self.at.env["ref", state.name]
                self.at.steps_of[axis, "ref", state.name].append(slot)
            self._note_steps(axis, {s.name for s in carried})
        self.at.depth.pop(axis, None)

    def _begin(self, axis: str, state: ir.State) -> None:
        """The value of a state before the first step of a repeat."""
        expr = cast(state.initial, state.type.dtype)
        if not in_block(expr, allowed):
            raise StepRefused(f"no kernel has a form of how `{state.name}` starts")
        self._note_tables(expr)
        dims = state.type.dims
        slot = self.at.work.store.fixed(self.at.extents(dims), state.type.dtype)
        self.force(f"{state.name}.first", expr, dims, slot)

    def _note_steps(self, axis: str, carried: set[str]) -> None:
        """Values of this step that others read at a place of the repeat."""
        for key in placed(self.at.flat, axis):
            if key[1] not in carried and key in self.at.env:
                empty = self.at.steps_of.setdefault((axis, *key), [self.at.env[key]])
                empty.append(self.at.env[key])
