// What libsignedge reads before it looks for a backend, one line of answer for each line of standard input:
//   contract FILE      "0" and the contract as JSON, or the status and the message
//   engine PATH        "0" and the name of the runtime, or the status and the message
//   plan PATH VERSION GPU CAPABILITY SMS   "0" where the plan of an engine may run at such a place, or why not
//   sha256 FILE SIZE   the hash by the portable code and by the CPU's instructions, fed SIZE bytes at a time
#include <fstream>
#include <iostream>
#include <iterator>
#include <sstream>

#include "engine_file.hpp"
#include "error.hpp"
#include "sha256.cpp"

using namespace signedge;

namespace {

std::string bytes_of(const std::string &path) {
    std::ifstream file(path, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
}

std::string quoted(const std::string &text) {
    std::string out = "\"";
    for (const char letter : text) {
        out += letter == '"' || letter == '\\' ? std::string("\\") + letter : std::string(1, letter);
    }
    return out + "\"";
}

template <typename Items, typename Show>
std::string list(const Items &items, Show show) {
    std::string out;
    for (const auto &item : items) {
        out += (out.empty() ? "[" : ", ") + show(item);
    }
    return out.empty() ? "[]" : out + "]";
}

std::string described(const Contract &contract) {
    auto named = [&](const std::vector<uint32_t> &joints) {
        return list(joints, [&](uint32_t joint) { return quoted(contract.layout[joint]); });
    };
    std::ostringstream out;
    out.precision(17);
    out << "{\"name\": " << quoted(contract.name) << ", \"glosses\": " << list(contract.glosses, quoted)
        << ", \"fps\": " << contract.fps << ", \"frame_stride\": " << contract.frame_stride
        << ", \"lookahead\": " << contract.lookahead << ", \"chunk\": " << contract.chunk
        << ", \"shift\": " << contract.shift << ", \"padding\": {\"left\": " << contract.padding.left
        << ", \"right\": " << contract.padding.right << ", \"multiple\": " << contract.padding.multiple
        << ", \"frames\": " << contract.padding.frames << "}"
        << ", \"input\": ";
    if (contract.input == Contract::Input::rgb) {
        out << "{\"kind\": \"rgb\", \"height\": " << contract.height << ", \"width\": " << contract.width << "}";
    } else {
        out << "{\"kind\": \"keypoints\", \"layout\": " << list(contract.layout, quoted)
            << ", \"joints\": " << named(contract.joints) << ", \"roots\": " << named(contract.roots)
            << ", \"origin\": " << named(contract.origin) << ", \"scale\": " << named(contract.scale) << "}";
    }
    out << "}";
    return out.str();
}

std::string hashed(const std::string &bytes, size_t at_once, Sha256::Compress compress) {
    Sha256 hash(compress);
    for (size_t at = 0; at < bytes.size(); at += at_once) {
        hash.update(bytes.data() + at, std::min(at_once, bytes.size() - at));
    }
    return hash.hex();
}

std::string answer(const std::string &command, const std::string &path, size_t size, const PlanPlace &place) {
    if (command == "contract") {
        return "0 " + described(parse_contract(bytes_of(path)));
    }
    if (command == "engine") {
        return "0 " + open_engine(path).runtime;
    }
    if (command == "plan") {
        const EngineFile engine = open_engine(path);
        check_plan(engine.bytes, engine.plan, place);
        return "0";
    }
    const Sha256::Compress instructions = has_instructions() ? compress_with_instructions : compress_portable;
    return hashed(bytes_of(path), size, compress_portable) + " " + hashed(bytes_of(path), size, instructions);
}

}  // namespace

int main() {
    for (std::string command, path; std::cin >> command >> path;) {
        size_t size = 0;
        PlanPlace place;
        if (command == "sha256") {
            std::cin >> size;
        } else if (command == "plan") {
            std::cin >> place.version >> place.gpu >> place.compute_capability >> place.sms;
        }
        try {
            std::cout << answer(command, path, size, place) << "\n";
        } catch (const Error &error) {
            std::cout << error.status << " " << error.what() << "\n";
        }
    }
}
