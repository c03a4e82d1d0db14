// For which GPU and version a TensorRT plan is, as its manifest and first bytes say; and whether it is for this one.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "json.hpp"

namespace signedge {

// `plan_facts` of a manifest, as far as TensorRT needs them: runtime/trt/compat.py writes them.
struct PlanFacts {
    std::string version;             // of the TensorRT that built it: "10.3.0"
    std::string machine;             // as uname names it: "aarch64"
    std::string gpu, compute_capability, sms;
    std::string hardware_compatible; // "", "ampere_plus" or "same_compute_capability"
    bool version_compatible = false;
    int32_t dla_core = -1;           // -1: none
};

// What of this machine a plan depends on.
struct PlanPlace {
    std::string version;  // of the TensorRT library: "10.3.0"
    std::string gpu, compute_capability, sms;
};

// The facts in a manifest; none where it has no member `plan_facts`. Throws Error(SIGNEDGE_BAD_FILE) naming what is
// missing or of the wrong kind.
std::optional<PlanFacts> parse_plan_facts(const Json &manifest);

// Throws Error(SIGNEDGE_BAD_FILE) with the reason for a plan that is not for this place, before anything reads it.
// Without facts its first bytes alone decide, which name a version since TensorRT 8.6.
void check_plan(const std::vector<uint8_t> &plan, const std::optional<PlanFacts> &facts, const PlanPlace &here);

}  // namespace signedge
