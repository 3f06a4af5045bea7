"""A lineage graph as a small tree: what the dataset is made from, and what is made from it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from rich.console import RenderableType
from rich.text import Text
from rich.tree import Tree

from lakegate.client.models import LineageGraph, LineageNode
from lakegate.output import Output
from lakegate.render import words
from lakegate.text import styled

# A tree longer than a screen is read by nobody; the graph itself is in --json.
_MOST_BRANCHES = 60


class _Neighbours:
    """The graph as adjacency, one direction."""

    def __init__(self, graph: LineageGraph, *, up: bool) -> None:
        self.nodes = {node.id: node for node in graph.nodes}
        self.next: Mapping[str, list[str]] = defaultdict(list)
        for edge in graph.edges:
            here, there = (edge.to, edge.from_) if up else (edge.from_, edge.to)
            if here in self.nodes and there in self.nodes:
                self.next[here].append(there)


def tree(output: Output, graph: LineageGraph, namespace: str, name: str) -> RenderableType:
    """The tree around one node; a node seen before is named again, and not unfolded again."""
    root = next((node for node in graph.nodes if node.namespace == namespace and node.name == name), None)
    if root is None:
        return styled((f"{name} has no lineage yet", "dim"))
    guides = "bright_black" if output.rich else ""
    drawn = Tree(_label(root, output), guide_style=guides)
    for title, up in (("made from", True), ("used by", False)):
        sides = _Neighbours(graph, up=up)
        if sides.next.get(root.id):
            _unfold(drawn.add(Text(title, style="italic")), root.id, sides, {root.id}, [_MOST_BRANCHES], output)
    if graph.truncated:
        drawn.add(Text("… cut here; ask for more with --depth or --limit", style="dim"))
    return drawn


def _unfold(branch: Tree, node_id: str, sides: _Neighbours, seen: set[str], budget: list[int], output: Output) -> None:
    for other in _sorted(sides.next.get(node_id, []), sides):
        if budget[0] == 0:
            branch.add(Text("…", style="dim"))
            return
        budget[0] -= 1
        twig = branch.add(_label(sides.nodes[other], output, again=other in seen))
        if other not in seen:
            seen.add(other)
            _unfold(twig, other, sides, seen, budget, output)


def _sorted(ids: Sequence[str], sides: _Neighbours) -> list[str]:
    return sorted(set(ids), key=lambda node_id: (sides.nodes[node_id].namespace, sides.nodes[node_id].name))


def _label(node: LineageNode, output: Output, *, again: bool = False) -> Text:
    style = "bold cyan" if node.type == "dataset" else "magenta"
    label = styled((f"{node.type} ", "dim"), (str(words.value(node.name, 90)), style), (f"  {node.namespace}", "dim"))
    return label.append(" (see above)", style="dim") if again else label
