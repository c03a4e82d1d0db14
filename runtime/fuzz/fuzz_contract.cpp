// Contracts of whatever text: each is refused in one line, or keeps every promise that the code after it relies on.
#include "contract.hpp"
#include "refused.hpp"

namespace {

using fuzz::need;

void check(const signedge::Contract &contract) {
    need(contract.glosses.size() >= 2 && contract.glosses.size() <= 65536 && contract.glosses[0] == "<blank>");
    need(contract.fps > 0 && contract.fps <= 1000);
    need(contract.frame_stride >= 1 && contract.frame_stride <= 1024);
    need(contract.lookahead >= -1 && contract.lookahead <= 65536);
    need(contract.shift <= contract.chunk && contract.chunk <= 65536);
    need(contract.chunk % contract.frame_stride == 0 && contract.shift % contract.frame_stride == 0);
    need(contract.padding.left <= 65536 && contract.padding.right <= 65536);
    need(contract.padding.multiple >= 1 && contract.padding.multiple <= 65536);
    need(contract.frame_values() >= 3 && contract.frame_values() <= 3ull * 4096 * 4096);
    if (contract.input == signedge::Contract::Input::rgb) {
        need(contract.layout.empty() && contract.height >= 1 && contract.width >= 1);
        return;
    }
    need(contract.joints.size() == contract.roots.size() && !contract.origin.empty());
    need(contract.scale.empty() || contract.scale.size() == 2);
    for (const auto *joints : {&contract.joints, &contract.roots, &contract.origin, &contract.scale}) {
        for (const uint32_t joint : *joints) {
            need(joint < contract.layout.size());
        }
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const std::string text(reinterpret_cast<const char *>(data), size);
    fuzz::take_or_refuse(SIGNEDGE_BAD_FILE, [&] { check(signedge::parse_contract(text)); });
    return 0;
}
