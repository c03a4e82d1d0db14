// Keypoints as they come to features of the network. Equals runtime/preprocess.py's keypoint_features, frame by frame.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "contract.hpp"
#include "signedge.h"

namespace signedge {

// Prepares the frames of one stream in order. A reference (origin, root, scale) that is not seen stays as last seen;
// before it was ever seen, as first seen: so the first sight of one changes frames that were prepared before.
class KeypointPreparer {
public:
    // names: the joints that will be pushed; empty: the contract's layout. Throws Error(SIGNEDGE_INVALID_ARGUMENT) that
    // names the joints which the model needs and the caller lacks, or a name given twice.
    KeypointPreparer(const Contract &contract, const std::vector<std::string> &names);
    void reset();

    uint32_t joints() const { return joints_; }  // that a caller pushes
    // Floats of one frame as kept: x, y, confidence of each point that the contract needs, then the references as
    // `prepare` found them.
    uint32_t raw_values() const { return references_at() + static_cast<uint32_t>(first_.size()); }

    // Read one frame of points into raw (raw_values floats): scaled; one with a value that is not finite is all zeros.
    // Throws Error(SIGNEDGE_INVALID_ARGUMENT) naming the field.
    void read(const signedge_keypoints &points, float *raw) const;
    // Features of one frame, (joints of the contract, 5), from its raw values, which get the references. Returns true
    // when one was seen for the first time: what is kept of the frames before must then be prepared again by `redo`.
    bool prepare(float *raw, float *out);
    // Prepare `count` frames from before the first sight again; they lie raw_values and joints * 5 floats apart. Any
    // frames that were prepared will do: the raw values tell what had not been seen yet.
    void redo(const float *raw, float *out, uint64_t count) const;

private:
    // What distances are taken from (the mean of some points) or divided by (the distance between two).
    struct Reference {
        std::vector<uint32_t> points;  // offsets into raw; all must be seen
        uint32_t value;                // offset among the references
        bool is_distance;
    };
    struct Joint {
        uint32_t point, root;  // offset into raw; offset among the references
    };

    std::vector<uint32_t> choose_points(const Contract &contract, const std::vector<std::string> &names);
    uint32_t add_reference(std::vector<uint32_t> points, bool is_distance);
    static bool measure(const Reference &reference, const float *raw, float *value);
    void features(const float *raw, float *out) const;
    uint32_t references_at() const { return static_cast<uint32_t>(3 * sources_.size()); }

    uint32_t joints_ = 0;
    std::vector<uint32_t> sources_;  // for each point of raw: its index among the caller's joints
    std::vector<Joint> features_;
    std::vector<Reference> references_;
    uint32_t origin_ = 0, scale_ = 0;  // offsets among the references
    bool has_scale_ = false;
    std::vector<float> first_, last_;  // the references as first and last seen; NaN before that
};

}  // namespace signedge
