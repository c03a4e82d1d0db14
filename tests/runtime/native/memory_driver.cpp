// Every allocation of libsignedge fails once, one after the other: the call says so, and called again it gives what it
// would have given. Usage: memory_driver ENGINE LANGUAGE_MODEL. Prints how many allocations failed.
#include <new>

#include "clips.hpp"

namespace {

long allowed = -1;  // allocations until one fails; below zero: none does
long failures = 0;

void *allocate(size_t size) {
    if (allowed >= 0 && allowed-- == 0) {
        failures++;
        return nullptr;
    }
    return std::malloc(size > 0 ? size : 1);
}

}  // namespace

void *operator new(size_t size) {
    if (void *memory = allocate(size)) {
        return memory;
    }
    throw std::bad_alloc();
}
void *operator new(size_t size, const std::nothrow_t &) noexcept { return allocate(size); }
void operator delete(void *memory) noexcept { std::free(memory); }
void operator delete(void *memory, size_t) noexcept { std::free(memory); }
void operator delete(void *memory, const std::nothrow_t &) noexcept { std::free(memory); }

namespace {

// The call with one allocation failing; when it says so, once more with all the memory there is.
template <typename Call, typename Undo>
void stubborn(const char *what, Call call, Undo undo) {
    const long before = failures;
    signedge_status status = call();
    if (failures > before && status != SIGNEDGE_OK) {
        need(status == SIGNEDGE_OUT_OF_MEMORY, what);
        allowed = -1;
        undo();
        status = call();
    }
    if (status != SIGNEDGE_OK) {
        std::fprintf(stderr, "%s: %s\n", what, signedge_status_name(status));
        std::exit(1);
    }
}

template <typename Call>
void stubborn(const char *what, Call call) {
    stubborn(what, call, [] {});
}

struct Setup {
    const char *engine, *language_model;
    uint32_t chunk;
    bool beam;
};

// All glosses of a clip through a stream, with the allocation number `failing` after the start failing.
Glosses recognise(const Setup &setup, const Clip &clip, long failing) {
    signedge_model *model = nullptr;
    signedge_lm *lm = nullptr;
    signedge_stream *stream = nullptr;
    allowed = failing;
    stubborn("model_open", [&] { return signedge_model_open(setup.engine, nullptr, &model); },
             [&] { signedge_model_destroy(model); });
    stubborn("lm_open", [&] { return signedge_lm_open(setup.language_model, &lm); }, [&] { signedge_lm_destroy(lm); });
    signedge_decoder_options decoder{};
    decoder.struct_size = sizeof decoder;
    decoder.kind = setup.beam ? SIGNEDGE_DECODER_BEAM : SIGNEDGE_DECODER_GREEDY;
    decoder.lm = setup.beam ? lm : nullptr;
    decoder.nbest = 3;
    signedge_stream_options options{};
    options.struct_size = sizeof options;
    options.chunk = setup.chunk;
    options.shift = setup.chunk == SIGNEDGE_WHOLE_CLIP ? 0 : setup.chunk / 4;
    options.decoder = &decoder;
    stubborn("stream_create", [&] { return signedge_stream_create(model, &options, &stream); },
             [&] { signedge_stream_destroy(stream); });
    signedge_model_destroy(model);
    Glosses found;
    for (uint32_t number = 0; number < clip.frames(); number++) {
        stubborn("push_frame", [&] { return clip.push(stream, number); });
        stubborn("step", [&] { return signedge_streams_step(&stream, 1); });
        if (number % 100 == 99) {
            const long kept = allowed;
            allowed = -1;  // of the driver's own
            take_final(stream, found);
            allowed = kept;
        }
    }
    stubborn("finish", [&] { return signedge_stream_finish(stream); });
    stubborn("last step", [&] { return signedge_stream_step(stream); });
    allowed = -1;
    take_final(stream, found);
    uint32_t count = 0;
    double score = 0;
    need(signedge_stream_nbest(stream, 0, nullptr, sizeof(signedge_gloss), 0, &count, &score) == SIGNEDGE_OK, "nbest");
    found.push_back(count);
    signedge_stream_destroy(stream);
    signedge_lm_destroy(lm);
    return found;
}

}  // namespace

int main(int argc, char **argv) {
    need(argc == 3, "usage: memory_driver ENGINE LANGUAGE_MODEL");
    const Clip clip(600, 7);  // longer than what a stream makes room for at its start
    for (const uint32_t chunk : {SIGNEDGE_WHOLE_CLIP, 32u}) {
        for (const bool beam : {false, true}) {
            const Setup setup{argv[1], argv[2], chunk, beam};
            const Glosses expected = recognise(setup, clip, -1);
            need(expected.size() > 40, "a clip of nothing");
            for (long failing = 0, before = -1; failures != before; failing++) {
                before = failures;
                need(recognise(setup, clip, failing) == expected, "a failed allocation changed the glosses");
            }
        }
    }
    std::printf("%ld\n", failures);
    return 0;
}
