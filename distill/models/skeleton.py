"""The skeleton as a graph: its bones, who is whose neighbour among any of its joints, neighbours in subsets."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Sequence
from itertools import pairwise
from typing import Literal

import numpy as np

from runtime.errors import BadInput

Bones = Iterable[tuple[str, str]]
Partition = Literal["uniform", "distance", "spatial"]

_ARM = ("shoulder", "elbow", "wrist", "hand_root")
# MediaPipe's topology of a hand: five fingers, and a palm that is closed along the roots of four of them.
_FINGERS = {"thumb": "root", "index": "root", "middle": "index1", "ring": "middle1", "little": "ring1"}


def body_and_hands_bones() -> tuple[tuple[str, str], ...]:
    """Bones of the 49 joints of `runtime.contract.body_and_hands_layout`: the shoulders' triangle, arms, hands."""
    bones = [("nose", "left_shoulder"), ("nose", "right_shoulder"), ("left_shoulder", "right_shoulder")]
    for side in ("left", "right"):
        chains = [[f"{side}_{joint}" for joint in _ARM], [f"{side}_hand_root", f"{side}_hand_little1"]]
        chains += [
            [f"{side}_hand_{start}"] + [f"{side}_hand_{finger}{i}" for i in range(1, 5)]
            for finger, start in _FINGERS.items()
        ]
        bones += [bone for chain in chains for bone in pairwise(chain)]
    return tuple(bones)


def _reach(start: Collection[str], bones: Bones, stop: Collection[str] = ()) -> dict[str, int]:
    """Hops from the nearest joint of `start` to every joint that can be reached; no path goes through `stop`."""
    touching: dict[str, list[str]] = {}
    for one, other in bones:
        touching.setdefault(one, []).append(other)
        touching.setdefault(other, []).append(one)
    hops = dict.fromkeys(start, 0)
    waiting = deque(start)
    while waiting:
        joint = waiting.popleft()
        if joint in stop and joint not in start:
            continue
        for other in touching.get(joint, []):
            if other not in hops:
                hops[other] = hops[joint] + 1
                waiting.append(other)
    return hops


def neighbours(joints: Sequence[str], bones: Bones) -> np.ndarray:
    """(V,V) bool: joined by a path of bones without another of `joints` on it; a joint is not its own neighbour.

    Leaving a joint out thus joins those that it held together: of hands seen by wrist and finger tips alone, all tips
    are neighbours.
    """
    found = np.zeros((len(joints), len(joints)), dtype=bool)
    for i, joint in enumerate(joints):
        near = _reach([joint], bones, stop=joints)
        found[i] = [other in near and other != joint for other in joints]
    return found


def partitions(how: Partition, joints: Sequence[str], centre: Sequence[str], bones: Bones) -> np.ndarray:
    """The graph in K subsets, (K,V,V) float32: [k,w,v] is the weight with which joint w hears joint v.

    uniform: one subset of the joint and its neighbours. distance: the joint; its neighbours. spatial: the joint and
    the neighbours as far from `centre` as it is (in bones); the nearer ones; the farther ones. Over k and v the weights
    of a joint sum to 1. Yan, Xiong, Lin, "Spatial Temporal Graph Convolutional Networks", AAAI 2018, section 3.3.

    Raises `BadInput` naming joints that no bone touches.
    """
    bones = tuple(bones)
    known = {joint for bone in bones for joint in bone}
    missing = [joint for joint in dict.fromkeys([*joints, *centre]) if joint not in known]
    if missing:
        raise BadInput(f"no bone of the skeleton touches {', '.join(missing[:10])}; a graph of the joints needs one")
    near, itself = neighbours(joints, bones), np.eye(len(joints), dtype=bool)
    hops = _reach(centre, bones)
    far = np.array([hops.get(joint, len(known)) for joint in joints])
    hears, heard = far[:, None], far[None]
    subsets = {
        "uniform": [near | itself],
        "distance": [itself, near],
        "spatial": [itself | near & (heard == hears), near & (heard < hears), near & (heard > hears)],
    }[how]
    return (np.stack(subsets) / (near | itself).sum(1)[None, :, None]).astype(np.float32)
