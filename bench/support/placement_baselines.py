"""Place layers by simplified rules of other projects, as baselines over the same cost tables.

They are our reading of the idea, not the projects' code. None if a rule finds no placement.

    exo        ring of the fewest nodes that hold the model, roomiest first, layers in proportion to memory
    petals     each server in turn takes the window of blocks that is served worst, as long as its memory; a client then
               takes the quickest way through the blocks
    parallax   the fastest nodes until the model fits, layers in proportion to speed, order by nearest neighbour
"""

from __future__ import annotations

import heapq

import numpy as np

from swarm_predict.cost.tables import CostTables


def exo(tables: CostTables) -> float | None:
    by_room = [int(i) for i in np.argsort(-tables.capacity, kind="stable") if tables.capacity_first[i] > 0]
    for count in range(1, len(by_room) + 1):
        order = by_room[:count]
        caps = tables.capacities(order)
        if sum(caps) >= tables.layers:
            return tables.price(order, _in_proportion(tables.layers, [float(c) for c in caps], caps))
    return None


def parallax(tables: CostTables) -> float | None:
    by_speed = [int(i) for i in np.argsort(tables.layer_ms, kind="stable") if tables.capacity_first[i] > 0]
    for count in range(1, len(by_speed) + 1):
        order = _nearest_neighbour(tables, by_speed[:count])
        caps = tables.capacities(order)
        if sum(caps) >= tables.layers:
            speed = [1 / float(tables.layer_ms[i]) for i in order]
            return tables.price(order, _in_proportion(tables.layers, speed, caps))
    return None


def petals(tables: CostTables, seed: int) -> float | None:
    served = np.zeros(tables.layers)
    spans: list[tuple[int, int, int]] = []  # (node, first, behind the last)
    for node in np.random.default_rng(seed).permutation(len(tables.names)):
        length = min(int(tables.capacity[node]), tables.layers)
        if length == 0:
            continue
        starts = range(tables.layers - length + 1)
        begin = min(starts, key=lambda s: (sorted(served[s : s + length].tolist()), s))
        served[begin : begin + length] += 1 / float(tables.layer_ms[node])
        spans.append((int(node), begin, begin + length))
    return None if (served == 0).any() else _quickest_way(tables, spans)


def _quickest_way(tables: CostTables, spans: list[tuple[int, int, int]]) -> float | None:
    """Run Dijkstra over (blocks done, server): a server is used from where one is to the end of its span."""
    queue: list[tuple[float, int, int, tuple[int, ...], tuple[int, ...]]] = [(0.0, 0, -1, (), ())]
    settled: set[tuple[int, int]] = set()
    best: float | None = None
    while queue:
        cost, done, at, order, counts = heapq.heappop(queue)
        if best is not None and cost >= best:
            break
        if done == tables.layers:
            price = tables.price(list(order), list(counts))
            best = price if best is None else min(best, price)
            continue
        if (done, at) in settled:
            continue
        settled.add((done, at))
        for node, begin, behind in spans:
            if begin <= done < behind and node not in order:
                hop = float(tables.enter_ms[node] if at < 0 else tables.hop_ms[at, node])
                work = float(tables.overhead_ms[node] + (behind - done) * tables.layer_ms[node])
                heapq.heappush(queue, (cost + hop + work, behind, node, (*order, node), (*counts, behind - done)))
    return best


def _in_proportion(total: int, weights: list[float], caps: list[int]) -> list[int]:
    """Split whole layers by weight, at least one each and at most what fits."""
    counts = [max(1, min(cap, int(total * w / sum(weights)))) for w, cap in zip(weights, caps, strict=True)]
    by_weight = sorted(range(len(weights)), key=lambda k: -weights[k])
    while sum(counts) != total:
        step = 1 if sum(counts) < total else -1
        k = next(k for k in by_weight if 1 <= counts[k] + step <= caps[k])
        counts[k] += step
        by_weight.append(by_weight.pop(by_weight.index(k)))
    return counts


def _nearest_neighbour(tables: CostTables, nodes: list[int]) -> list[int]:
    order, left = [nodes[0]], set(nodes[1:])
    while left:
        nearest = min(sorted(left), key=lambda node: float(tables.hop_ms[order[-1], node]))
        order.append(nearest)
        left.remove(nearest)
    return order
