// An engine on disk: its folder checked against its manifest, its bytes in memory, its contract read.
#include "engine_file.hpp"

#include <algorithm>

#include "error.hpp"
#include "json.hpp"
#include "plain_file.hpp"
#include "sha256.hpp"
#include "text.hpp"

namespace signedge {
namespace {

constexpr char manifest_name[] = "manifest.json";
constexpr char contract_name[] = "contract.json";
constexpr char metadata_key[] = "signedge.contract";
constexpr int64_t known_format = 1;
constexpr uint64_t any_size = ~uint64_t{0};
constexpr size_t most_files = 1024;
constexpr size_t read_at_once = size_t{256} << 10;

struct Runtime {
    const char *name;
    const char *model;     // its file in an engine folder
    const char *contract;  // the file of the contract; NULL: in the metadata of the model, which is ONNX
};
constexpr Runtime runtimes[] = {
    {"onnxruntime", "engine.onnx", nullptr},
    {"openvino", "engine.onnx", nullptr},
    {"tensorrt", "engine.plan", contract_name},
};

const Runtime *find_runtime(const std::string &name) {
    const Runtime *end = std::end(runtimes);
    const Runtime *found = std::find_if(runtimes, end, [&](const Runtime &runtime) { return name == runtime.name; });
    return found == end ? nullptr : found;
}

// Runs a step; what it throws gets `where` in front.
template <typename Step>
auto at(const std::string &where, Step step) {
    try {
        return step();
    } catch (const Error &error) {
        fail(error.status, "%s: %s", shown(where, 400).c_str(), error.what());
    }
}

std::string as_text(const std::vector<uint8_t> &bytes) { return std::string(bytes.begin(), bytes.end()); }

void check_hash(const std::string &path, Sha256 &found, const std::string &expected) {
    if (found.hex() != expected) {
        fail(SIGNEDGE_BAD_FILE, "%s is not the file that its manifest was written for (its hash differs)",
             shown(path, 400).c_str());
    }
}

std::vector<uint8_t> read_checked(const Folder &folder, const std::string &name, const std::string &expected,
                                  uint64_t most) {
    PlainFile file = folder.open(name);
    std::vector<uint8_t> bytes = file.read_all(most);
    Sha256 hash;
    hash.update(bytes.data(), bytes.size());
    check_hash(file.path(), hash, expected);
    return bytes;
}

void check_file(const Folder &folder, const std::string &name, const std::string &expected) {
    PlainFile file = folder.open(name);
    std::vector<uint8_t> buffer(read_at_once);
    Sha256 hash;
    while (const size_t count = file.read(buffer.data(), buffer.size())) {
        hash.update(buffer.data(), count);
    }
    check_hash(file.path(), hash, expected);
}

Contract contract_in_onnx(const std::vector<uint8_t> &bytes) {
    std::string text;
    if (!onnx_metadata(bytes.data(), bytes.size(), metadata_key, text)) {
        fail(SIGNEDGE_BAD_FILE, "it has no contract (metadata '%s'); make it with: signedge export", metadata_key);
    }
    // No hash covers such data, and its location may be any file or address.
    if (onnx_has_external_data(bytes.data(), bytes.size())) {
        fail(SIGNEDGE_BAD_FILE, "it keeps weights outside of itself (external data); save it as one file");
    }
    return parse_contract(text);
}

EngineFile open_folder(const std::string &path) {
    const Folder folder(path);
    PlainFile manifest_file = folder.open(manifest_name);
    const std::string manifest_text = as_text(manifest_file.read_all(longest_json));
    const Manifest manifest = at(path, [&] { return parse_manifest(manifest_text); });
    const Runtime &runtime = *find_runtime(manifest.runtime);
    EngineFile engine;
    engine.path = path + "/" + runtime.model;
    engine.runtime = manifest.runtime;
    engine.plan = manifest.plan;
    std::string contract_text;
    for (const auto &[name, hash] : manifest.files) {
        if (name == runtime.model) {
            engine.bytes = read_checked(folder, name, hash, any_size);
        } else if (runtime.contract && name == runtime.contract) {
            contract_text = as_text(read_checked(folder, name, hash, longest_json));
        } else {
            check_file(folder, name, hash);
        }
    }
    engine.contract = at(engine.path, [&] {
        return runtime.contract ? parse_contract(contract_text) : contract_in_onnx(engine.bytes);
    });
    return engine;
}

EngineFile open_onnx(const std::string &path) {
    EngineFile engine;
    engine.path = path;
    engine.runtime = runtimes[0].name;
    engine.bytes = PlainFile(path).read_all(any_size);
    engine.contract = at(path, [&] { return contract_in_onnx(engine.bytes); });
    return engine;
}

bool is_hash(const std::string &text) {
    return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

}  // namespace

EngineFile open_engine(const std::string &path) { return Folder::exists(path) ? open_folder(path) : open_onnx(path); }

Manifest parse_manifest(const std::string &text) {
    const Json json = parse_json(text, "its manifest.json");
    const Json *kind = json.find("kind");
    if (kind && kind->text() && *kind->text() == "bundle") {
        fail(SIGNEDGE_BAD_FILE, "it is a bundle, not yet an engine: its build.sh makes it one, on the machine it is for");
    }
    const Json *files = json.find("files");
    if (!files || !files->object()) {
        fail(SIGNEDGE_BAD_FILE, "its manifest.json is not that of an engine: it names no files");
    }
    const Json *format = json.find("format");
    if (!format || !format->integer() || *format->integer() != known_format) {
        const int64_t *number = format ? format->integer() : nullptr;
        const std::string found = number ? std::to_string(*number) : format ? format->kind() : "none";
        fail(SIGNEDGE_BAD_FILE, "its manifest.json has format %s; this version reads format %lld", found.c_str(),
             static_cast<long long>(known_format));
    }
    const Json *name = json.find("runtime");
    const Runtime *runtime = name && name->text() ? find_runtime(*name->text()) : nullptr;
    if (!runtime) {
        fail(SIGNEDGE_BAD_FILE, "its manifest.json names the runtime '%s', which is not known here",
             name && name->text() ? shown(*name->text(), 60).c_str() : "");
    }
    if (files->object()->size() > most_files) {
        fail(SIGNEDGE_BAD_FILE, "its manifest.json names more than %zu files", most_files);
    }
    Manifest manifest;
    manifest.runtime = runtime->name;
    for (const Json::Member &file : *files->object()) {
        if (!Folder::may_hold(file.name)) {
            fail(SIGNEDGE_BAD_FILE, "its manifest.json names a file outside its folder: '%s'",
                 shown(file.name).c_str());
        }
        if (!file.value.text() || !is_hash(*file.value.text())) {
            fail(SIGNEDGE_BAD_FILE, "its manifest.json has no SHA-256 of '%s' (64 digits, lower case)",
                 shown(file.name).c_str());
        }
        manifest.files.emplace_back(file.name, *file.value.text());
    }
    for (const char *needed : {runtime->model, runtime->contract}) {
        if (needed && !files->find(needed)) {
            fail(SIGNEDGE_BAD_FILE, "its manifest.json has no hash of %s", needed);
        }
    }
    manifest.plan = parse_plan_facts(json);
    return manifest;
}

}  // namespace signedge
