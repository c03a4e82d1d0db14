// For which GPU and version a TensorRT plan is, as its manifest and first bytes say; and whether it is for this one.
// The rules are those of runtime/trt/compat.py, which says where they come from.
#include "plan_facts.hpp"

#include <sys/utsname.h>

#include <algorithm>
#include <cstdlib>

#include "error.hpp"
#include "text.hpp"

namespace signedge {
namespace {

constexpr char tag[] = {'f', 't', 'r', 't'};  // how a plan begins since TensorRT 8.6
constexpr size_t version_at = 24, header_size = 28;
using Version = std::vector<int>;

[[noreturn]] void untold(const char *name) {
    fail(SIGNEDGE_BAD_FILE, "its manifest.json does not say for which GPU and version its plan is (plan_facts: %s)", name);
}

std::string text_of(const Json &facts, const char *name) {
    const Json *found = facts.find(name);
    if (!found || !found->text()) {
        untold(name);
    }
    return *found->text();
}

Version numbers(const std::string &text) {
    Version found;
    for (const char *at = text.c_str(); *at >= '0' && *at <= '9';) {
        char *end = nullptr;
        found.push_back(static_cast<int>(std::min(std::strtol(at, &end, 10), 1000000L)));
        at = *end == '.' ? end + 1 : end;
    }
    return found;
}

// Whether two versions agree as far as both go: libraries say 10.3.0, plans 10.3.0.26.
bool same(const std::string &one, const std::string &other) {
    const Version a = numbers(one), b = numbers(other);
    const size_t both = std::min(a.size(), b.size());
    return both >= 3 && std::equal(a.begin(), a.begin() + static_cast<std::ptrdiff_t>(both), b.begin());
}

// Whether TensorRT `runs` reads a version-compatible plan that `built` made.
bool reads(const std::string &runs, const std::string &built) {
    constexpr int newest[][2] = {{8, 10}, {9, 10}, {10, 11}, {11, 11}};  // major version -> the last that reads its plans
    const Version here = numbers(runs), there = numbers(built);
    return !here.empty() && !there.empty() && there <= here &&
           std::any_of(std::begin(newest), std::end(newest),
                       [&](const int(&known)[2]) { return known[0] == there[0] && here[0] <= known[1]; });
}

// The version in the first bytes of a plan; "" of one that TensorRT before 8.6 made, which tells none.
std::string told_by(const std::vector<uint8_t> &plan, const std::string &built_by) {
    if (numbers(built_by) < Version{8, 6}) {
        return "";
    }
    if (plan.size() < header_size || !std::equal(tag, tag + sizeof tag, plan.begin())) {
        fail(SIGNEDGE_BAD_FILE, "it is not a TensorRT plan: it does not begin as one");
    }
    std::string version;
    for (size_t i = version_at; i < header_size; i++) {
        version += (version.empty() ? "" : ".") + std::to_string(plan[i]);
    }
    return version;
}

// Why a plan with these facts does not run here; "" where it does.
std::string misfit(const PlanFacts &facts, const PlanPlace &here) {
    const auto differs = [](const char *what, const std::string &made, const std::string &found) {
        return std::string(what) + shown(made, 60) + ", here is " + shown(found, 60);
    };
    utsname system{};
    uname(&system);
    if (facts.machine != system.machine) {
        return differs("it is for ", facts.machine, system.machine);
    }
    if (!same(facts.version, here.version)) {
        if (!facts.version_compatible) {
            return differs("it was built by TensorRT ", facts.version, here.version);
        }
        if (!reads(here.version, facts.version)) {
            return differs("not every version reads a version-compatible plan: it is of ", facts.version, here.version);
        }
    }
    if (facts.hardware_compatible == "ampere_plus") {
        return numbers(here.compute_capability) >= Version{8}
                   ? ""
                   : differs("it needs compute capability ", "8.0 or later", here.compute_capability);
    }
    if (facts.compute_capability != here.compute_capability) {
        return differs("it is for compute capability ", facts.compute_capability, here.compute_capability);
    }
    if (facts.hardware_compatible.empty() && facts.gpu != here.gpu) {
        return differs("it was built on GPU ", facts.gpu, here.gpu);
    }
    if (facts.hardware_compatible.empty() && facts.sms != here.sms) {
        return differs("the number of its GPU's multiprocessors was ", facts.sms, here.sms);
    }
    return "";
}

}  // namespace

std::optional<PlanFacts> parse_plan_facts(const Json &manifest) {
    const Json *given = manifest.find("plan_facts");
    if (!given) {
        return std::nullopt;
    }
    PlanFacts facts;
    facts.version = text_of(*given, "version");
    facts.machine = text_of(*given, "machine");
    facts.gpu = text_of(*given, "gpu");
    facts.compute_capability = text_of(*given, "compute_capability");
    facts.sms = text_of(*given, "sms");
    facts.hardware_compatible = text_of(*given, "hardware_compatible");
    const auto known = {"", "ampere_plus", "same_compute_capability"};
    if (std::find(known.begin(), known.end(), facts.hardware_compatible) == known.end()) {
        untold("hardware_compatible");
    }
    const Json *compatible = given->find("version_compatible");
    if (!compatible || !compatible->boolean()) {
        untold("version_compatible");
    }
    facts.version_compatible = *compatible->boolean();
    const Json *core = given->find("dla_core");
    if (!core || !(core->null() || (core->integer() && *core->integer() >= 0 && *core->integer() < 64))) {
        untold("dla_core");
    }
    facts.dla_core = core->null() ? -1 : static_cast<int32_t>(*core->integer());
    return facts;
}

void check_plan(const std::vector<uint8_t> &plan, const std::optional<PlanFacts> &facts, const PlanPlace &here) {
    const std::string told = told_by(plan, facts ? facts->version : here.version);
    if (facts && !told.empty() && !same(told, facts->version)) {
        fail(SIGNEDGE_BAD_FILE, "it is a plan of TensorRT %s, its manifest says %s", told.c_str(),
             shown(facts->version, 60).c_str());
    }
    if (!facts && !told.empty() && !same(told, here.version)) {
        fail(SIGNEDGE_BAD_FILE, "it was built by TensorRT %s, here is %s", told.c_str(), here.version.c_str());
    }
    const std::string why = facts ? misfit(*facts, here) : "";
    if (!why.empty()) {
        fail(SIGNEDGE_BAD_FILE, "this plan does not run here: %s. Build it on this machine", why.c_str());
    }
}

}  // namespace signedge
