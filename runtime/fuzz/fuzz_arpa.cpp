// Language models of whatever text: each is refused in one line, or answers every question with a probability.
#include <cmath>

#include "arpa.hpp"
#include "refused.hpp"

namespace {

using signedge::LanguageModel;

// A walk through the words, known and not, ends after each.
void check(const LanguageModel &model) {
    const uint32_t words[] = {model.word("a"), model.word("b"), model.word("<unk>"), model.word("<s>"), model.word("?")};
    LanguageModel::State state = model.begin();
    for (uint32_t step = 0; step < 64; step++) {
        const float score = model.score(state, words[(step * step + step / 5) % 5], state);
        const float end = model.end(state);
        fuzz::need(score <= 0 && end <= 0 && !std::isinf(score) && !std::isinf(end));
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz::take_or_refuse(SIGNEDGE_BAD_FILE, [&] {
        check(*LanguageModel::parse(reinterpret_cast<const char *>(data), size, "text"));
    });
    return 0;
}
