// The contract: all that must be known to feed a model and to read its output. Written by training, in the engine's
// metadata; runtime/contract.py is its other reader, and both refuse the same texts.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace signedge {

struct Padding {
    uint32_t left = 0, right = 0, multiple = 4;
    uint32_t frames = 0;  // the only length that the network takes; 0: any
    // Frames that the network sees of a clip of so many: edge frames are repeated (see runtime/contract.py).
    uint64_t total(uint64_t clip) const {
        return left + (frames ? frames : (clip + multiple - 1) / multiple * multiple) + right;
    }
};

struct Contract {
    enum class Input { rgb, keypoints };

    std::string name;
    std::string text;  // the JSON it was read from
    Input input = Input::rgb;
    uint32_t height = 0, width = 0;           // rgb: float32 (3, height, width), value / 127.5 - 1
    std::vector<std::string> layout;          // keypoints: names of the V joints that come in
    std::vector<uint32_t> joints, roots;      // keypoints: indices into layout, one root a joint
    std::vector<uint32_t> origin, scale;      // keypoints: indices into layout; scale has none or two
    std::vector<std::string> glosses;         // [0] is the blank
    double fps = 0;
    uint32_t frame_stride = 4;
    int32_t lookahead = -1;                   // -1: the whole clip
    uint32_t chunk = 0, shift = 0;            // 0: not said
    Padding padding;

    uint64_t steps(uint64_t frames) const { return (frames + frame_stride - 1) / frame_stride; }
    // Steps that the network gives for a clip of so many frames: beyond the clip's own where it takes one length only.
    uint64_t steps_run(uint64_t clip) const { return steps(padding.frames ? padding.frames : clip); }
    // One prepared frame, float32: (3, height, width), or (joints, 5).
    std::vector<int64_t> frame_shape() const {
        return input == Input::rgb ? std::vector<int64_t>{3, height, width}
                                   : std::vector<int64_t>{static_cast<int64_t>(joints.size()), 5};
    }
    uint64_t frame_values() const { return input == Input::rgb ? uint64_t{3} * height * width : joints.size() * 5; }
};

// Parse and check; throws Error(SIGNEDGE_BAD_FILE). Never reads past the text, whatever it holds.
Contract parse_contract(const std::string &json);

}  // namespace signedge
