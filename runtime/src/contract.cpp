// The contract: read from JSON and checked. The limits and rules are those of runtime/contract.py.
#include "contract.hpp"

#include <algorithm>
#include <initializer_list>
#include <unordered_map>
#include <unordered_set>

#include "error.hpp"
#include "json.hpp"
#include "text.hpp"

namespace signedge {
namespace {

constexpr int64_t known_version = 1;
constexpr char blank[] = "<blank>";
constexpr int64_t most_pixels = 4096;    // of a side of the network's frames
constexpr int64_t most_glosses = 65536;  // with the blank
constexpr int64_t most_joints = 4096;
constexpr int64_t most_frames = 65536;   // of a window, its hop, the future, an edge
constexpr int64_t most_frames_a_step = 1024;
constexpr double most_frames_a_second = 1000;

// The members of one object, each asked for by name.
class Fields {
public:
    // `names`: all that there may be.
    Fields(const Json &json, const char *where, std::initializer_list<const char *> names)
        : json_(json), where_(where) {
        if (!json.object()) {
            fail(SIGNEDGE_BAD_FILE, "%s must be an object, not %s", where, json.kind());
        }
        for (const Json::Member &member : *json.object()) {
            if (std::none_of(names.begin(), names.end(), [&](const char *name) { return member.name == name; })) {
                fail(SIGNEDGE_BAD_FILE, "%s has an unknown field '%s'", where, shown(member.name).c_str());
            }
        }
    }

    bool has(const char *name) const { return json_.find(name); }

    const Json &get(const char *name) const {
        const Json *found = json_.find(name);
        if (!found) {
            fail(SIGNEDGE_BAD_FILE, "%s is incomplete: it has no '%s'", where_, name);
        }
        return *found;
    }

    int64_t whole(const char *name, int64_t least, int64_t most) const {
        const int64_t *value = get(name).integer();
        if (!value) {
            fail(SIGNEDGE_BAD_FILE, "%s: %s must be a whole number, not %s", where_, name, get(name).kind());
        }
        if (*value < least || *value > most) {
            fail(SIGNEDGE_BAD_FILE, "%s: %s is %lld; it must be from %lld to %lld", where_, name,
                 static_cast<long long>(*value), static_cast<long long>(least), static_cast<long long>(most));
        }
        return *value;
    }

    // Replaces `value` if there is such a field.
    template <typename Number>
    void read_whole(const char *name, int64_t least, int64_t most, Number &value) const {
        if (has(name)) {
            value = static_cast<Number>(whole(name, least, most));
        }
    }

    const std::string &name(const char *name) const {
        const std::string *value = get(name).text();
        if (!value || !is_name(*value)) {
            fail(SIGNEDGE_BAD_FILE, "%s: %s must be a text of 1 to 256 bytes on one line", where_, name);
        }
        return *value;
    }

    std::vector<std::string> names(const char *name, int64_t most) const {
        const Json::Array *items = get(name).array();
        if (!items) {
            fail(SIGNEDGE_BAD_FILE, "%s: %s must be a list of names, not %s", where_, name, get(name).kind());
        }
        if (items->size() > static_cast<size_t>(most)) {
            fail(SIGNEDGE_BAD_FILE, "%s: %s has %zu names, more than %lld", where_, name, items->size(),
                 static_cast<long long>(most));
        }
        std::vector<std::string> found;
        found.reserve(items->size());
        for (const Json &item : *items) {
            if (!item.text() || !is_name(*item.text())) {
                fail(SIGNEDGE_BAD_FILE, "%s: %s[%zu] must be a text of 1 to 256 bytes on one line", where_, name,
                     found.size());
            }
            found.push_back(*item.text());
        }
        return found;
    }

private:
    const Json &json_;
    const char *where_;
};

// A name that occurs twice, or NULL.
const std::string *repeated(const std::vector<std::string> &names) {
    std::unordered_set<std::string> seen;
    const auto found = std::find_if(names.begin(), names.end(), [&](auto &name) { return !seen.insert(name).second; });
    return found == names.end() ? nullptr : &*found;
}

void read_rgb(const Json &json, Contract &contract) {
    const Fields fields(json, "the contract's input", {"kind", "height", "width"});
    contract.input = Contract::Input::rgb;
    contract.height = static_cast<uint32_t>(fields.whole("height", 1, most_pixels));
    contract.width = static_cast<uint32_t>(fields.whole("width", 1, most_pixels));
}

void read_keypoints(const Json &json, Contract &contract) {
    const Fields fields(json, "the contract's input", {"kind", "layout", "joints", "roots", "origin", "scale"});
    contract.input = Contract::Input::keypoints;
    contract.layout = fields.names("layout", most_joints);
    if (const std::string *twice = repeated(contract.layout)) {
        fail(SIGNEDGE_BAD_FILE, "the contract's layout names '%s' twice", shown(*twice).c_str());
    }
    std::unordered_map<std::string, uint32_t> index;
    for (const std::string &name : contract.layout) {
        index.emplace(name, static_cast<uint32_t>(index.size()));
    }
    auto indices = [&](const char *field) {
        std::vector<uint32_t> found;
        for (const std::string &name : fields.names(field, most_joints)) {
            const auto known = index.find(name);
            if (known == index.end()) {
                fail(SIGNEDGE_BAD_FILE, "the contract's %s are not in the layout: %s", field, shown(name).c_str());
            }
            found.push_back(known->second);
        }
        return found;
    };
    contract.joints = indices("joints");
    contract.roots = indices("roots");
    contract.origin = indices("origin");
    if (fields.has("scale")) {
        contract.scale = indices("scale");
    }
    if (contract.joints.empty() || contract.joints.size() != contract.roots.size() || contract.origin.empty() ||
        (contract.scale.size() != 0 && contract.scale.size() != 2)) {
        fail(SIGNEDGE_BAD_FILE,
             "the contract needs a joint, one root a joint, a joint of origin, and none or two scale joints; it names "
             "%zu joints, %zu roots, %zu of origin, %zu of scale",
             contract.joints.size(), contract.roots.size(), contract.origin.size(), contract.scale.size());
    }
}

void read_input(const Json &json, Contract &contract) {
    const Json *kind = json.find("kind");
    const std::string *name = kind ? kind->text() : nullptr;
    if (name && *name == "rgb") {
        read_rgb(json, contract);
    } else if (name && *name == "keypoints") {
        read_keypoints(json, contract);
    } else {
        fail(SIGNEDGE_BAD_FILE, "the contract's input kind is '%s', neither rgb nor keypoints",
             name ? shown(*name).c_str() : "missing");
    }
}

void read_glosses(const Fields &fields, Contract &contract) {
    contract.glosses = fields.names("glosses", most_glosses);
    if (contract.glosses.size() < 2 || contract.glosses[0] != blank) {
        fail(SIGNEDGE_BAD_FILE, "the contract's gloss table must start with %s and name one gloss at least", blank);
    }
    if (const std::string *twice = repeated(contract.glosses)) {
        fail(SIGNEDGE_BAD_FILE, "the contract's gloss table names '%s' twice", shown(*twice).c_str());
    }
}

double read_fps(const Fields &fields) {
    const Json &json = fields.get("fps");
    if (!json.real() && !json.integer()) {
        fail(SIGNEDGE_BAD_FILE, "the contract: fps must be a number, not %s", json.kind());
    }
    const double value = json.real() ? *json.real() : static_cast<double>(*json.integer());
    if (!(value > 0 && value <= most_frames_a_second)) {
        fail(SIGNEDGE_BAD_FILE, "the contract: fps is %g; it must be above 0 and at most %g", value,
             most_frames_a_second);
    }
    return value;
}

void read_padding(const Json &json, Padding &padding) {
    const Fields fields(json, "the contract's padding", {"left", "right", "multiple", "frames"});
    fields.read_whole("left", 0, most_frames, padding.left);
    fields.read_whole("right", 0, most_frames, padding.right);
    fields.read_whole("multiple", 1, most_frames, padding.multiple);
    fields.read_whole("frames", 0, most_frames, padding.frames);
}

void check_one_length(const Contract &contract) {
    const uint32_t one = contract.padding.frames;
    if (one == 0) {
        return;
    }
    const uint64_t ahead = contract.steps(static_cast<uint64_t>(std::max(contract.lookahead, 0)));
    if (one % contract.frame_stride || one % contract.padding.multiple || one != contract.chunk ||
        (ahead + 1) * contract.frame_stride > one) {
        fail(SIGNEDGE_BAD_FILE,
             "the contract: padding.frames (%u) must be a multiple of frame_stride (%u) and of padding.multiple (%u), "
             "equal to chunk (%u), and a step longer than lookahead (%d)",
             one, contract.frame_stride, contract.padding.multiple, contract.chunk, contract.lookahead);
    }
}

void read_window(const Fields &fields, Contract &contract) {
    fields.read_whole("chunk", 0, most_frames, contract.chunk);
    fields.read_whole("shift", 0, most_frames, contract.shift);
    if (contract.chunk % contract.frame_stride != 0 || contract.shift % contract.frame_stride != 0 ||
        contract.shift > contract.chunk) {
        fail(SIGNEDGE_BAD_FILE,
             "the contract: chunk (%u) and shift (%u) must be multiples of frame_stride (%u), shift at most chunk",
             contract.chunk, contract.shift, contract.frame_stride);
    }
}

void check_sources(const Json &json) {
    if (!json.object()) {
        fail(SIGNEDGE_BAD_FILE, "the contract: sources must be an object, not %s", json.kind());
    }
    for (const Json::Member &member : *json.object()) {
        if (!member.value.text()) {
            fail(SIGNEDGE_BAD_FILE, "the contract: source '%s' must be a text, not %s", shown(member.name).c_str(),
                 member.value.kind());
        }
    }
}

void check_version(const Json &version) {
    if (!version.integer() || *version.integer() != known_version) {
        const std::string found = version.integer() ? std::to_string(*version.integer()) : version.kind();
        fail(SIGNEDGE_BAD_FILE, "contract version %s is not known here (this is version %lld)", found.c_str(),
             static_cast<long long>(known_version));
    }
}

}  // namespace

Contract parse_contract(const std::string &text) {
    const Json json = parse_json(text, "the contract");
    if (const Json *version = json.find("version")) {
        check_version(*version);
    }
    const Fields fields(json, "the contract",
                        {"name", "input", "glosses", "fps", "frame_stride", "lookahead", "chunk", "shift", "padding",
                         "sources", "version"});
    Contract contract;
    contract.text = text;
    contract.name = fields.name("name");
    read_input(fields.get("input"), contract);
    read_glosses(fields, contract);
    contract.fps = read_fps(fields);
    fields.read_whole("frame_stride", 1, most_frames_a_step, contract.frame_stride);
    fields.read_whole("lookahead", -1, most_frames, contract.lookahead);
    read_window(fields, contract);
    if (fields.has("padding")) {
        read_padding(fields.get("padding"), contract.padding);
        check_one_length(contract);
    }
    if (fields.has("sources")) {
        check_sources(fields.get("sources"));
    }
    return contract;
}

}  // namespace signedge
