"""Layers as inspectors of the versions and the log of TensorRT-RTX tell them, made one form."""

from __future__ import annotations

import json
from typing import Any

from runtime.trt.inspect import layers_from_json, layers_from_log, summary, told
from runtime.trt.module import Line


def tensor(name: str, text: str) -> dict[str, Any]:
    return {"Name": name, "Location": "Device", "Dimensions": [1, 8, 4], "Format/Datatype": text}


OLD = {  # the form of 8.2 to 8.6: types within descriptions of formats, fused nodes in names, weights apart
    "Layers": [
        {
            "Name": "Reformatting CopyNode for Input Tensor 0 to conv", "LayerType": "Reformat",
            "Inputs": [tensor("input", "Row major linear FP32")],
            "Outputs": [tensor("input_copy", "Channel major FP16 format where channel % 8 == 0")],
        },
        {
            "Name": "conv + relu", "LayerType": "CaskConvolution",
            "Inputs": [tensor("input_copy", "Channel major FP16 format where channel % 8 == 0")],
            "Outputs": [tensor("maps", "Channel major FP16 format where channel % 8 == 0")],
            "Weights": {"Type": "Half", "Count": 96}, "Bias": {"Type": "Half", "Count": 8}, "TacticName": "sm72_fprop",
        },
        {
            "Name": "kernel + kernel_q + second", "LayerType": "CaskConvolution",
            "Inputs": [
                tensor("maps_q", "Thirty-two wide channel vectorized row major Int8 format"),
                tensor("shortcut", "Row major linear FP16 format"),
            ],
            "Outputs": [tensor("more", "Thirty-two wide channel vectorized row major Int8 format")],
            "Weights": {"Type": "Int8", "Count": 96},
        },
        {"Name": "{ForeignNode[norm...scores]}", "LayerType": "Myelin",
         "Inputs": [tensor("more", "Row major linear FP16 format")],
         "Outputs": [tensor("log_probs", "Row major linear FP32")]},
    ],
    "Bindings": ["input", "log_probs"],
}  # fmt: skip
NEW = {  # the form of 10 on: a type of its own, nodes in the metadata
    "Layers": [
        {
            "Name": "conv_myl0_1", "LayerType": "correlation", "TacticName": "", "StreamId": 0,
            "Inputs": [{"Name": "a", "Dimensions": [1, 8], "Datatype": "Float", "Format": "Row major linear format"}],
            "Constants": [{"Name": "b", "Dimensions": [8, 8], "Datatype": "Int8", "Format": "Row major linear format"}],
            "Outputs": [{"Name": "c", "Dimensions": [1, 8], "Datatype": "Float", "Format": "Row major linear format"}],
            "Metadata": "[ONNX Layer: /body/layers[0]/conv]\x1e[ONNX Layer: relu]",
        },
    ],
}  # fmt: skip
LOG = """Layers:
Name: shape_0, LayerType: shape_call, Inputs: [], Constants: [], Outputs: [], TacticName: , StreamId: 0, Metadata: 
Name: fc, act_1, LayerType: gemm, Inputs: [ { Name: x, Dimensions: [1,-1,8], Datatype: Half, Format: (Linear) Row major linear format }], Constants: [ { Name: w, Dimensions: [8,8], Datatype: Half, Format: (NHWC) Channel major format }], Outputs: [ { Name: y, Dimensions: [1,-1,8], Datatype: Half, Format: (Linear) Row major linear format }], TacticName: tactic_1, StreamId: 0, Metadata: [ONNX Layer: fc][ONNX Layer: act]

I/O Tensors:
 Name: x, IOMode: Input, DataType: Half"""  # noqa: E501, W291 - as it is logged


def test_the_older_form_is_read() -> None:
    layers = layers_from_json(json.dumps(OLD))
    assert [(layer["precision"], layer["product"]) for layer in layers] == [
        ("fp32", False), ("fp16", True), ("int8", True), ("unknown", False),
    ]  # fmt: skip
    assert layers[1]["nodes"] == ["conv", "relu"] and layers[1]["tactic"] == "sm72_fprop"
    found = summary(layers)
    assert found["products"] == {"fp16": 1, "int8": 1} and found["others"] == {"fp32": 1} and found["unknown"] == 1


def test_a_product_of_floats_with_int8_weights_is_a_fallback() -> None:
    layers = layers_from_json(json.dumps(NEW))
    assert layers[0]["nodes"] == ["/body/layers[0]/conv", "relu"]
    wanted = {"/body/layers[0]/conv": "int8", "relu": "fp32", "elsewhere": "int8"}
    assert summary(layers, wanted)["fallbacks"] == [{"node": "/body/layers[0]/conv", "wanted": "int8", "got": "fp32"}]


def test_the_log_is_read() -> None:
    lines = [Line("VERBOSE", "Subgraph compilation completed"), Line("VERBOSE", LOG)]
    first, second = layers_from_log(lines)
    assert first["precision"] == "none" and not first["product"]
    assert second["name"] == "fc, act_1" and second["precision"] == "fp16" and second["product"]
    assert second["nodes"] == ["fc", "act"] and second["source"] == "log" and second["constants"] == ["fp16"]


def test_a_log_without_a_list_tells_nothing() -> None:
    assert layers_from_log([Line("INFO", "Layers are many")]) == []


def test_names_alone_are_read_too() -> None:
    layers = layers_from_json(json.dumps({"Layers": ["conv + relu", "scores"], "Bindings": []}))
    assert [layer["nodes"] for layer in layers] == [["conv", "relu"], ["scores"]]
    assert summary(layers)["unknown"] == 2


def test_what_was_not_left_to_the_dla_is_told() -> None:
    entries = [{"Name": "{ForeignNode[a...b]}", "LayerType": "DLA"}, {"Name": "c", "LayerType": "CaskPooling"}]
    found = summary(layers_from_json(json.dumps({"Layers": entries})), dla=True)
    assert found["fallbacks"] == [{"node": "c", "wanted": "DLA", "got": "GPU"}]


def test_what_is_not_known_is_not_said_to_be_well() -> None:
    nothing = told(summary([], {"a": "int8"}))
    assert nothing == told(summary(layers_from_json(json.dumps({"Layers": ["convolution"]})), {"convolution": "int8"}))
    assert "nothing is told" in nothing and "nothing fell back" not in nothing
    entries = [
        {"Name": "a", "LayerType": "Convolution", "Inputs": [{"Datatype": "Half"}], "Outputs": []},
        {"Name": "{ForeignNode[b...c]}", "LayerType": "Myelin"},
    ]
    found = layers_from_json(json.dumps({"Layers": entries}))
    assert told(summary(found)) == "products: 1 in fp16; of 1 blocks nothing is told; of the rest nothing fell back"
    assert told(summary(found[:1], {"a": "int8"})) == "products: 1 in fp16; fell back: a (int8, got fp16)"
