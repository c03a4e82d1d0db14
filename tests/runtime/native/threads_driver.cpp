// Many threads at one model: each with streams of its own, some stepping streams together, some running the network,
// some opening and closing what others use. Every clip gives what it gives alone. Usage: threads_driver ENGINE
#include <atomic>
#include <thread>

#include "clips.hpp"

namespace {

constexpr uint32_t clips = 12, steps = 60, rounds = 6;

signedge_model *open_model(const char *path, int32_t workers) {
    signedge_model_options options{};
    options.struct_size = sizeof options;
    options.threads = 1;
    options.workers = workers;
    signedge_model *model = nullptr;
    need(signedge_model_open(path, &options, &model) == SIGNEDGE_OK, "model_open");
    return model;
}

signedge_stream *make_stream(signedge_model *model, bool beam) {
    signedge_decoder_options decoder{};
    decoder.struct_size = sizeof decoder;
    decoder.kind = beam ? SIGNEDGE_DECODER_BEAM : SIGNEDGE_DECODER_GREEDY;
    signedge_stream_options options{};
    options.struct_size = sizeof options;
    options.chunk = 32;
    options.shift = 8;
    options.decoder = &decoder;
    signedge_stream *stream = nullptr;
    need(signedge_stream_create(model, &options, &stream) == SIGNEDGE_OK, "stream_create");
    return stream;
}

std::vector<Clip> make_clips() {
    std::vector<Clip> made;
    for (uint32_t i = 0; i < clips; i++) {
        made.emplace_back(steps + i % 3, i);
    }
    return made;
}

// The glosses of clips whose streams are stepped together; of one clip, alone.
std::vector<Glosses> recognise(signedge_model *model, const std::vector<Clip> &given, bool beam) {
    std::vector<signedge_stream *> streams;
    std::vector<Glosses> found(given.size());
    for (size_t i = 0; i < given.size(); i++) {
        streams.push_back(make_stream(model, beam));
    }
    for (uint32_t number = 0; number <= (steps + 2) * frames_a_step; number++) {
        for (size_t i = 0; i < given.size(); i++) {
            if (number < given[i].frames()) {
                need(given[i].push(streams[i], number) == SIGNEDGE_OK, "push");
            } else {
                need(signedge_stream_finish(streams[i]) == SIGNEDGE_OK, "finish");
            }
        }
        need(signedge_streams_step(streams.data(), static_cast<uint32_t>(streams.size())) == SIGNEDGE_OK, "step");
        for (size_t i = 0; i < given.size(); i++) {
            take_final(streams[i], found[i]);
        }
    }
    for (signedge_stream *stream : streams) {
        signedge_stream_destroy(stream);
    }
    return found;
}

void run_network(signedge_model *model) {
    const std::vector<float> input(2 * 16 * 3 * 4 * 4, 0.5f);
    std::vector<float> log_probs(2 * 4 * 4);
    need(signedge_model_run(model, input.data(), input.size(), 2, 16, log_probs.data(), log_probs.size(), NULL, 0) == SIGNEDGE_OK, "run");
}

}  // namespace

int main(int argc, char **argv) {
    need(argc == 2, "usage: threads_driver ENGINE");
    const std::vector<Clip> given = make_clips();
    std::vector<Glosses> expected;
    signedge_model *alone = open_model(argv[1], 1);
    for (const Clip &clip : given) {
        expected.push_back(recognise(alone, {clip}, false)[0]);
        need(expected.back().size() > 10, "a clip of nothing");
    }
    signedge_model_destroy(alone);

    signedge_model *model = open_model(argv[1], 3);
    std::atomic<uint32_t> done{0};
    std::vector<std::thread> threads;
    for (uint32_t i = 0; i < 8; i++) {
        threads.emplace_back([&, i] {
            for (uint32_t round = 0; round < rounds; round++) {
                const uint32_t number = (i + round) % clips;
                need(recognise(model, {given[number]}, i % 2 == 1)[0] == expected[number], "a thread's own stream");
                done++;
            }
        });
    }
    for (uint32_t i = 0; i < 2; i++) {
        threads.emplace_back([&, i] {
            for (uint32_t round = 0; round < rounds; round++) {
                need(recognise(model, given, i == 1) == expected, "streams stepped together");
                done++;
            }
        });
    }
    threads.emplace_back([&] {
        while (done < 9 * rounds) {
            run_network(model);
            signedge_stream_destroy(make_stream(model, true));
            signedge_model_destroy(open_model(argv[1], 2));
            need(signedge_capabilities(nullptr, 0, nullptr) == SIGNEDGE_OK, "capabilities");
        }
    });
    for (std::thread &thread : threads) {
        thread.join();
    }
    signedge_stream *last = make_stream(model, false);
    std::thread([&] { signedge_model_destroy(model); }).join();
    need(given[0].push(last, 0) == SIGNEDGE_OK && signedge_stream_step(last) == SIGNEDGE_OK, "after the model");
    signedge_stream_destroy(last);
    std::printf("%u\n", done.load());
    return 0;
}
