// Keypoints as they come to features of the network: which points, what they are measured from, and what is held.
#include "keypoints.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <unordered_map>
#include <utility>

#include "error.hpp"
#include "text.hpp"

namespace signedge {
namespace {

constexpr uint32_t none = UINT32_MAX;
constexpr float unseen = std::numeric_limits<float>::quiet_NaN();
constexpr float smallest_scale = 1e-3f;
constexpr uint32_t channels = 5;  // of a joint's features
constexpr size_t most_named = 8;  // missing joints that a message names

std::unordered_map<std::string, uint32_t> index_of(const std::vector<std::string> &names) {
    std::unordered_map<std::string, uint32_t> index;
    for (uint32_t i = 0; i < names.size(); i++) {
        if (!index.emplace(names[i], i).second) {
            fail(SIGNEDGE_INVALID_ARGUMENT, "joint_names has '%s' twice", shown(names[i]).c_str());
        }
    }
    return index;
}

[[noreturn]] void fail_missing(const std::string &model, const std::vector<std::string> &missing) {
    std::string list;
    for (size_t i = 0; i < std::min(missing.size(), most_named); i++) {
        list += (i > 0 ? ", " : "") + shown(missing[i], 80);
    }
    if (missing.size() > most_named) {
        list += " and " + std::to_string(missing.size() - most_named) + " more";
    }
    fail(SIGNEDGE_INVALID_ARGUMENT, "joint_names lacks what '%s' needs: %s", shown(model, 80).c_str(), list.c_str());
}

bool is_seen(const float *point) { return point[0] != 0 || point[1] != 0; }

float factor(const char *name, float scale) {
    if (!std::isfinite(scale)) {
        fail(SIGNEDGE_INVALID_ARGUMENT, "keypoints.%s is not a finite number", name);
    }
    return scale == 0 ? 1 : scale;
}

}  // namespace

KeypointPreparer::KeypointPreparer(const Contract &contract, const std::vector<std::string> &names) {
    const std::vector<uint32_t> offsets = choose_points(contract, names);
    const auto pick = [&offsets](const std::vector<uint32_t> &indices) {
        std::vector<uint32_t> points;
        for (const uint32_t index : indices) {
            points.push_back(offsets[index]);
        }
        return points;
    };
    origin_ = add_reference(pick(contract.origin), false);
    has_scale_ = !contract.scale.empty();
    if (has_scale_) {
        scale_ = add_reference(pick(contract.scale), true);
    }
    std::vector<uint32_t> roots(contract.layout.size(), none);
    for (size_t i = 0; i < contract.joints.size(); i++) {
        uint32_t &root = roots[contract.roots[i]];
        if (root == none) {
            root = add_reference({offsets[contract.roots[i]]}, false);
        }
        features_.push_back({offsets[contract.joints[i]], root});
    }
    last_ = first_;
}

// Which of the caller's joints are kept, and for each joint of the layout where it lies in raw (none: nowhere).
std::vector<uint32_t> KeypointPreparer::choose_points(const Contract &contract,
                                                      const std::vector<std::string> &names) {
    const auto index = index_of(names);
    joints_ = static_cast<uint32_t>(names.empty() ? contract.layout.size() : names.size());
    std::vector<uint32_t> offsets(contract.layout.size(), none);
    std::vector<std::string> missing;
    for (const auto *joints : {&contract.joints, &contract.roots, &contract.origin, &contract.scale}) {
        for (const uint32_t joint : *joints) {
            if (offsets[joint] != none) {
                continue;
            }
            offsets[joint] = references_at();
            const auto found = index.find(contract.layout[joint]);
            if (!names.empty() && found == index.end()) {
                missing.push_back(contract.layout[joint]);
            }
            sources_.push_back(found == index.end() ? joint : found->second);
        }
    }
    if (!missing.empty()) {
        fail_missing(contract.name, missing);
    }
    return offsets;
}

uint32_t KeypointPreparer::add_reference(std::vector<uint32_t> points, bool is_distance) {
    const auto value = static_cast<uint32_t>(first_.size());
    references_.push_back({std::move(points), value, is_distance});
    first_.resize(value + (is_distance ? 1 : 2), unseen);
    return value;
}

void KeypointPreparer::reset() {
    std::fill(first_.begin(), first_.end(), unseen);
    std::fill(last_.begin(), last_.end(), unseen);
}

void KeypointPreparer::read(const signedge_keypoints &points, float *raw) const {
    if (points.points == nullptr) {
        fail(SIGNEDGE_INVALID_ARGUMENT, "keypoints.points is NULL");
    }
    if (points.joints != joints_) {
        fail(SIGNEDGE_INVALID_ARGUMENT, "keypoints.joints is %u; this stream takes %u", points.joints, joints_);
    }
    const float x_scale = factor("x_scale", points.x_scale), y_scale = factor("y_scale", points.y_scale);
    for (const uint32_t source : sources_) {
        const float *const point = points.points + size_t{3} * source;
        raw[0] = point[0] * x_scale;
        raw[1] = point[1] * y_scale;
        raw[2] = point[2];
        if (!std::isfinite(raw[0]) || !std::isfinite(raw[1]) || !std::isfinite(raw[2])) {
            std::fill(raw, raw + 3, 0.0f);
        }
        raw += 3;
    }
}

bool KeypointPreparer::prepare(float *raw, float *out) {
    bool is_first_sight = false;
    for (const Reference &reference : references_) {
        float *const last = &last_[reference.value], *const first = &first_[reference.value];
        if (measure(reference, raw, last) && std::isnan(*first)) {
            std::copy_n(last, reference.is_distance ? 1 : 2, first);
            is_first_sight = true;
        }
    }
    std::copy(last_.begin(), last_.end(), raw + references_at());
    features(raw, out);
    return is_first_sight;
}

void KeypointPreparer::redo(const float *raw, float *out, uint64_t count) const {
    for (uint64_t frame = 0; frame < count; frame++) {
        features(raw + frame * raw_values(), out + frame * channels * features_.size());
    }
}

// The value of a reference in this frame; false, and the value stays, where it is not seen.
bool KeypointPreparer::measure(const Reference &reference, const float *raw, float *value) {
    float x = 0, y = 0;
    for (const uint32_t point : reference.points) {
        if (!is_seen(raw + point)) {
            return false;
        }
        x += raw[point];
        y += raw[point + 1];
    }
    if (reference.is_distance) {
        const float *const from = raw + reference.points[0], *const to = raw + reference.points[1];
        x = std::sqrt((from[0] - to[0]) * (from[0] - to[0]) + (from[1] - to[1]) * (from[1] - to[1]));
        y = 0;
    } else {
        x /= static_cast<float>(reference.points.size());
        y /= static_cast<float>(reference.points.size());
    }
    if (!std::isfinite(x) || !std::isfinite(y)) {
        return false;
    }
    value[0] = x;
    if (!reference.is_distance) {
        value[1] = y;
    }
    return true;
}

void KeypointPreparer::features(const float *raw, float *out) const {
    const float *const held = raw + references_at();
    // What had not been seen when the frame came was first seen later, or never.
    const auto find = [&](uint32_t value) { return std::isnan(held[value]) ? &first_[value] : held + value; };
    const float *const origin = find(origin_);
    const float origin_x = std::isnan(*origin) ? 0.5f : origin[0], origin_y = std::isnan(*origin) ? 0.5f : origin[1];
    const float *const width = has_scale_ ? find(scale_) : nullptr;
    const float scale = width == nullptr || std::isnan(*width) ? 1 : std::max(*width, smallest_scale);
    for (const Joint &joint : features_) {
        const float *const point = raw + joint.point;
        const float *const found = find(joint.root), *const root = std::isnan(*found) ? point : found;
        const bool seen = point[2] > 0;
        out[0] = seen ? (point[0] - origin_x) / scale : 0;
        out[1] = seen ? (point[1] - origin_y) / scale : 0;
        out[2] = seen ? (point[0] - root[0]) / scale : 0;
        out[3] = seen ? (point[1] - root[1]) / scale : 0;
        out[4] = point[2];
        out += channels;
    }
}

}  // namespace signedge
