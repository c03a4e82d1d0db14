// An engine on disk: its folder checked against its manifest, its bytes in memory, its contract read.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "contract.hpp"
#include "plan_facts.hpp"

namespace signedge {

struct EngineFile {
    std::string path;             // of the model file, for messages
    std::string runtime;          // the backend that the manifest names; "onnxruntime" for a bare ONNX file
    std::vector<uint8_t> bytes;   // the model file
    Contract contract;
    std::optional<PlanFacts> plan;  // of a TensorRT plan whose manifest has them
};

// Open an engine folder (manifest.json, format 1; every file's SHA-256 is checked) or a bare ONNX file with a contract.
// Throws Error(SIGNEDGE_BAD_FILE) that says what is wrong with which file; refuses names that leave the folder.
EngineFile open_engine(const std::string &path);

struct Manifest {
    std::string runtime;                                     // a known one
    std::vector<std::pair<std::string, std::string>> files;  // names below the folder, SHA-256; the model file is there
    std::optional<PlanFacts> plan;
};

// Parse and check; throws Error(SIGNEDGE_BAD_FILE). Whether the files are there is for open_engine to see.
Manifest parse_manifest(const std::string &json);

// The value of a key in the metadata of an ONNX model (ModelProto.metadata_props); false when it is not there.
// Throws Error(SIGNEDGE_BAD_FILE) when the bytes are not a protobuf message.
bool onnx_metadata(const uint8_t *bytes, size_t size, const std::string &key, std::string &value);

// Whether a tensor of an ONNX model lies in another file, or wherever its location says. Throws as onnx_metadata does.
bool onnx_has_external_data(const uint8_t *bytes, size_t size);

}  // namespace signedge
