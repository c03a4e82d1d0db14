// The C boundary: handles, statuses and messages. Nothing is thrown past it.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <memory>
#include <new>
#include <stdexcept>

#include "arpa.hpp"
#include "decoder.hpp"
#include "error.hpp"
#include "glosses.hpp"
#include "image.hpp"
#include "model.hpp"
#include "stream.hpp"
#include "structs.hpp"
#include "text.hpp"

using namespace signedge;

namespace {

// The words of the last failure, in a place that needs no memory.
struct Message {
    char text[1024] = "";
    void set(const char *words) noexcept { std::snprintf(text, sizeof text, "%s", words); }
};

// Runs the body; what it throws becomes a status, and words in the message.
template <typename Body>
signedge_status guard(Message *message, Body body) noexcept {
    const auto failed = [message](signedge_status status, const char *words) {
        if (message) {
            message->set(words);
        }
        return status;
    };
    try {
        body();
        return SIGNEDGE_OK;
    } catch (const Error &error) {
        return failed(error.status, error.what());
    } catch (const std::bad_alloc &) {
        return failed(SIGNEDGE_OUT_OF_MEMORY, "out of memory");
    } catch (const std::length_error &) {
        return failed(SIGNEDGE_OUT_OF_MEMORY, "out of memory: a size is beyond what can be addressed");
    } catch (const std::exception &error) {
        return failed(SIGNEDGE_INTERNAL, error.what());
    } catch (...) {
        return failed(SIGNEDGE_INTERNAL, "an unknown fault");
    }
}

signedge_status copy_text(const char *text, char *buffer, uint32_t capacity, uint32_t *needed) noexcept {
    const size_t size = std::strlen(text) + 1;
    if (buffer && capacity > 0) {
        size_t copied = std::min<size_t>(size - 1, capacity - 1);
        while (copied > 0 && (static_cast<uint8_t>(text[copied]) & 0xc0) == 0x80) {
            copied--;  // a character is copied whole or not at all
        }
        std::memcpy(buffer, text, copied);
        buffer[copied] = 0;
    }
    if (needed) {
        *needed = static_cast<uint32_t>(size);
    }
    return !buffer && capacity > 0 ? SIGNEDGE_INVALID_ARGUMENT : SIGNEDGE_OK;
}

constexpr char no_handle[] = "the handle is NULL: it was not created, was destroyed, or there was no memory for it";

void need(const void *pointer, const char *name) {
    if (!pointer) {
        fail(SIGNEDGE_INVALID_ARGUMENT, "%s is NULL", name);
    }
}

// What has no meaning yet may get one: a program that sets it is of another version.
template <typename Number>
void need_zero(Number value, const char *name) {
    if (value != 0) {
        fail(SIGNEDGE_UNSUPPORTED, "%s is set, which this version of libsignedge does not know", name);
    }
}

// A call on a handle, which keeps the message.
template <typename Handle, typename Body>
signedge_status call(Handle *handle, const char *name, Body body) noexcept {
    return guard(handle ? &handle->message : nullptr, [&] {
        need(handle, name);
        body(*handle);
    });
}

// Makes a handle, then what is in it: when that fails the handle stays, for its message.
template <typename Handle, typename Fill>
signedge_status create(Handle **handle, Fill fill) noexcept {
    if (!handle) {
        return SIGNEDGE_INVALID_ARGUMENT;
    }
    *handle = new (std::nothrow) Handle;
    if (!*handle) {
        return SIGNEDGE_OUT_OF_MEMORY;
    }
    return guard(&(*handle)->message, [&] { fill(**handle); });
}

std::string text(const char *given) { return given ? given : ""; }

Log make_log(signedge_log_fn log, void *user) {
    return [log, user](int32_t level, const char *message) {
        if (log) {
            log(user, level, message);
        }
    };
}

std::string escaped(const std::string &words) {
    std::string out;
    for (const char letter : words) {
        if (letter == '"' || letter == '\\') {
            out += '\\';
        }
        out += static_cast<unsigned char>(letter) < 0x20 ? ' ' : letter;
    }
    return out;
}

std::string capabilities() {
    std::string json = "{\"abi_version\": " + std::to_string(SIGNEDGE_ABI_VERSION) + ", \"backends\": {";
    for (const Backend *const *backend = backends; *backend; backend++) {
        json += std::string(backend == backends ? "" : ", ") + "\"" + (*backend)->name + "\": ";
        try {
            json += "{\"available\": true, \"version\": \"" + escaped((*backend)->version("")) + "\"}";
        } catch (const std::exception &error) {
            json += "{\"available\": false, \"reason\": \"" + escaped(shown(error.what(), 1000)) + "\"}";
        }
    }
    return json + "}, \"instruction_set\": \"" + image_instruction_set() +
           "\", \"decoders\": [\"greedy\", \"beam\"], \"pixels\": [\"rgb\", \"bgr\", \"gray\", \"nv12\", \"i420\"]}";
}

}  // namespace

// What the handles hold. A stream that failed to be made holds nothing but its message.
struct signedge_model {
    Message message;
    std::shared_ptr<Model> model;
    Model &use() const {
        if (!model) {
            fail(SIGNEDGE_INVALID_ARGUMENT, "the model did not open");
        }
        return *model;
    }
};

struct signedge_lm {
    Message message;
    std::shared_ptr<const LanguageModel> model;
};

struct signedge_decoder {
    mutable Message message;
    std::unique_ptr<Decoder> decoder;
    std::vector<Token> preview;
    size_t taken = 0;
    bool finished = false;
    Decoder &use() const {
        if (!decoder) {
            fail(SIGNEDGE_INVALID_ARGUMENT, "the decoder was not created");
        }
        return *decoder;
    }
};

struct signedge_stream {
    mutable Message message;
    std::unique_ptr<Stream> stream;
    Stream &use() const {
        if (!stream) {
            fail(SIGNEDGE_INVALID_ARGUMENT, "the stream was not created");
        }
        return *stream;
    }
};

namespace signedge {

DecoderOptions resolve(const signedge_decoder_options *options) {
    const signedge_decoder_options given = read_struct(options, "signedge_decoder_options");
    need_zero(given.reserved, "signedge_decoder_options.reserved");
    DecoderOptions resolved;
    const auto value = [](auto number, auto otherwise) { return number == 0 ? otherwise : number; };
    resolved.kind = given.kind;
    resolved.beam_width = value(given.beam_width, resolved.beam_width);
    resolved.top_k = value(given.top_k, resolved.top_k);
    resolved.nbest = value(given.nbest, resolved.nbest);
    resolved.class_threshold = value(given.class_threshold, resolved.class_threshold);
    resolved.beam_threshold = value(given.beam_threshold, resolved.beam_threshold);
    resolved.lm_weight = value(given.lm_weight, resolved.lm_weight);
    resolved.gloss_bonus = value(given.gloss_bonus, given.lm ? 1.0f : 0.0f);
    if (given.lm) {
        resolved.lm = given.lm->model;
        if (!resolved.lm) {
            fail(SIGNEDGE_INVALID_ARGUMENT, "the language model did not open");
        }
    }
    for (uint32_t i = 0; i < given.hot_count; i++) {
        need(given.hot_words, "hot_words");
        need(given.hot_boosts, "hot_boosts");
        need(given.hot_words[i], "a hot word");
        resolved.hot_words.emplace_back(given.hot_words[i], given.hot_boosts[i]);
    }
    return resolved;
}

}  // namespace signedge

namespace {

StreamOptions resolve(const signedge_stream_options *options, const Contract &contract) {
    const signedge_stream_options given = read_struct(options, "signedge_stream_options");
    constexpr uint32_t longest = 1u << 20;
    StreamOptions resolved;
    const auto first = [](uint32_t a, uint32_t b, uint32_t c) { return a ? a : b ? b : c; };
    const uint32_t stride = contract.frame_stride;
    const auto whole_steps = [stride](uint32_t frames) { return (frames + stride - 1) / stride * stride; };
    const uint32_t one = contract.padding.frames;
    resolved.whole = given.chunk == SIGNEDGE_WHOLE_CLIP;
    if (resolved.whole) {
        resolved.chunk = one;  // 0: one run
        resolved.lookahead = contract.lookahead < 0 ? one / 4 / stride * stride
                                                    : whole_steps(static_cast<uint32_t>(contract.lookahead));
        const uint32_t room = one - std::min(one, resolved.lookahead);
        const uint32_t between = room - std::min(room, resolved.lookahead);
        resolved.shift = std::max(std::max(between, room / 2) / stride, 1u) * stride;
    } else {
        if (std::max({given.chunk, given.shift, given.lookahead, given.queue}) > longest) {
            fail(SIGNEDGE_INVALID_ARGUMENT, "chunk, shift, lookahead and queue may be %u frames at most", longest);
        }
        // What the caller leaves open gives way to what he asks for and to what the engine needs.
        const bool promised = given.lookahead || contract.lookahead >= 0;
        const uint32_t promise = whole_steps(static_cast<uint32_t>(std::max(contract.lookahead, 0)));
        const uint32_t needed = given.lookahead ? given.lookahead : promise;
        if (one && given.chunk > one) {
            fail(SIGNEDGE_INVALID_ARGUMENT, "'%s' sees %u frames at once; the chunk may not be %u",
                 contract.name.c_str(), one, given.chunk);
        }
        resolved.chunk = first(given.chunk, contract.chunk, whole_steps(256));
        resolved.shift = first(given.shift, contract.shift, whole_steps(16));
        if (!given.chunk && !one) {
            resolved.chunk = std::max(resolved.chunk, needed + resolved.shift);
        }
        if (!given.shift) {
            const uint32_t rest = resolved.chunk - std::min(resolved.chunk, needed);
            resolved.shift = std::min(resolved.shift, std::max(rest / stride, 1u) * stride);
        }
        const uint32_t half = resolved.chunk / 2 / stride * stride;
        const uint32_t room = resolved.chunk - std::min(resolved.shift, resolved.chunk);
        resolved.lookahead = promised ? needed : std::min(half, room);
        resolved.queue = given.queue ? given.queue : 4 * resolved.shift;
    }
    if (given.when_full < SIGNEDGE_WHEN_FULL_BLOCK || given.when_full > SIGNEDGE_WHEN_FULL_DROP_OLDEST) {
        fail(SIGNEDGE_INVALID_ARGUMENT, "when_full is %d, which is none of SIGNEDGE_WHEN_FULL_*", given.when_full);
    }
    resolved.when_full = given.when_full;
    resolved.resample = given.resample != 0;
    for (uint32_t i = 0; i < given.joints; i++) {
        need(given.joint_names, "joint_names");
        need(given.joint_names[i], "a joint name");
        resolved.joint_names.emplace_back(given.joint_names[i]);
    }
    resolved.decoder = signedge::resolve(given.decoder);
    return resolved;
}

}  // namespace

extern "C" {

uint32_t signedge_abi_version(void) { return SIGNEDGE_ABI_VERSION; }

const char *signedge_version(void) { return SIGNEDGE_VERSION; }

const char *signedge_status_name(signedge_status status) {
    switch (status) {
        case SIGNEDGE_OK: return "SIGNEDGE_OK";
        case SIGNEDGE_INVALID_ARGUMENT: return "SIGNEDGE_INVALID_ARGUMENT";
        case SIGNEDGE_BAD_FILE: return "SIGNEDGE_BAD_FILE";
        case SIGNEDGE_NO_BACKEND: return "SIGNEDGE_NO_BACKEND";
        case SIGNEDGE_BACKEND_FAILED: return "SIGNEDGE_BACKEND_FAILED";
        case SIGNEDGE_UNSUPPORTED: return "SIGNEDGE_UNSUPPORTED";
        case SIGNEDGE_OUT_OF_MEMORY: return "SIGNEDGE_OUT_OF_MEMORY";
        case SIGNEDGE_QUEUE_FULL: return "SIGNEDGE_QUEUE_FULL";
        case SIGNEDGE_BAD_TIME: return "SIGNEDGE_BAD_TIME";
        case SIGNEDGE_FINISHED: return "SIGNEDGE_FINISHED";
        case SIGNEDGE_INTERNAL: return "SIGNEDGE_INTERNAL";
        default: return "an unknown status";
    }
}

signedge_status signedge_capabilities(char *buffer, uint32_t capacity, uint32_t *needed) {
    signedge_status copied = SIGNEDGE_OK;
    const signedge_status status =
        guard(nullptr, [&] { copied = copy_text(capabilities().c_str(), buffer, capacity, needed); });
    return status ? status : copied;
}

// --------------------------------------------------------------------------------------------------------- model ---

signedge_status signedge_model_open(const char *path, const signedge_model_options *options, signedge_model **model) {
    return create(model, [&](signedge_model &handle) {
        need(path, "path");
        const signedge_model_options given = read_struct(options, "signedge_model_options");
        need_zero(given.reserved, "signedge_model_options.reserved");
        if (given.threads < 0 || given.threads > 1024) {
            fail(SIGNEDGE_INVALID_ARGUMENT, "threads is %d: give 0 to 1024", given.threads);
        }
        if (given.workers < 0 || given.workers > 1024) {
            fail(SIGNEDGE_INVALID_ARGUMENT, "workers is %d: give 0 to 1024", given.workers);
        }
        handle.model = open_model(path, {given.threads, std::max(1, given.workers), text(given.backend),
                                         text(given.library), make_log(given.log, given.log_user)});
    });
}

void signedge_model_destroy(signedge_model *model) { delete model; }

signedge_status signedge_model_message(const signedge_model *model, char *buffer, uint32_t capacity, uint32_t *needed) {
    return copy_text(model ? model->message.text : no_handle, buffer, capacity, needed);
}

signedge_status signedge_model_get_info(const signedge_model *model, signedge_model_info *info) {
    return guard(nullptr, [&] {
        need(model, "model");
        const Contract &contract = model->use().contract;
        const bool rgb = contract.input == Contract::Input::rgb;
        signedge_model_info values{};
        values.input = rgb ? SIGNEDGE_INPUT_RGB : SIGNEDGE_INPUT_KEYPOINTS;
        values.width = contract.width;
        values.height = contract.height;
        values.joints = static_cast<uint32_t>(contract.layout.size());
        values.classes = static_cast<uint32_t>(contract.glosses.size());
        values.frame_stride = contract.frame_stride;
        values.lookahead = contract.lookahead;
        values.chunk = contract.chunk;
        values.shift = contract.shift;
        values.frames = contract.padding.frames;
        values.fps = contract.fps;
        write_struct(values, info, "signedge_model_info");
    });
}

const char *signedge_model_gloss(const signedge_model *model, uint32_t id) {
    const bool known = model && model->model && id < model->model->contract.glosses.size();
    return known ? model->model->contract.glosses[id].c_str() : nullptr;
}

const char *signedge_model_joint(const signedge_model *model, uint32_t index) {
    const bool known = model && model->model && index < model->model->contract.layout.size();
    return known ? model->model->contract.layout[index].c_str() : nullptr;
}

const char *signedge_model_contract(const signedge_model *model) {
    return model && model->model ? model->model->contract.text.c_str() : nullptr;
}

const char *signedge_model_backend(const signedge_model *model) {
    return model && model->model ? model->model->backend.c_str() : nullptr;
}

signedge_status signedge_model_run(const signedge_model *model, const float *input, uint64_t input_values,
                                   uint32_t batch, uint32_t frames, float *log_probs, uint64_t log_probs_values,
                                   char *message, uint32_t capacity) {
    Message words;
    const signedge_status status = guard(&words, [&] {
        need(model, "model");
        need(input, "input");
        need(log_probs, "log_probs");
        const Contract &contract = model->use().contract;
        const uint64_t edges = uint64_t{contract.padding.left} + contract.padding.right;
        const uint64_t steps = frames > edges ? contract.steps(frames - edges) : 0;
        const uint64_t clips_frames = uint64_t{batch} * frames;
        if (clips_frames == 0 || steps == 0 || clips_frames > UINT64_MAX / sizeof(float) / contract.frame_values() ||
            input_values != clips_frames * contract.frame_values()) {
            fail(SIGNEDGE_INVALID_ARGUMENT, "a batch of %u times %u frames is not made of %llu values", batch, frames,
                 static_cast<unsigned long long>(input_values));
        }
        const uint64_t classes = contract.glosses.size();
        if (log_probs_values % classes || log_probs_values / classes != batch * steps) {
            fail(SIGNEDGE_INVALID_ARGUMENT, "a batch of %u times %u frames does not give %llu values", batch, frames,
                 static_cast<unsigned long long>(log_probs_values));
        }
        if (batch > 1 && !model->model->session->batches()) {
            fail(SIGNEDGE_UNSUPPORTED, "this engine takes one clip at a time");
        }
        model->model->session->run(input, batch, frames, log_probs, static_cast<int64_t>(steps));
    });
    copy_text(words.text, message, capacity, nullptr);
    return status;
}

// ------------------------------------------------------------------------------------------------------ decoding ---

signedge_status signedge_lm_open(const char *path, signedge_lm **lm) {
    return create(lm, [&](signedge_lm &handle) {
        need(path, "path");
        handle.model = LanguageModel::read(path);
    });
}

void signedge_lm_destroy(signedge_lm *lm) { delete lm; }

signedge_status signedge_lm_message(const signedge_lm *lm, char *buffer, uint32_t capacity, uint32_t *needed) {
    return copy_text(lm ? lm->message.text : no_handle, buffer, capacity, needed);
}

signedge_status signedge_decoder_create(const char *const *glosses, uint32_t classes,
                                        const signedge_decoder_options *options, signedge_decoder **decoder) {
    return create(decoder, [&](signedge_decoder &handle) {
        need(glosses, "glosses");
        if (classes < 2) {
            fail(SIGNEDGE_INVALID_ARGUMENT, "%u classes: the blank and one gloss are needed at least", classes);
        }
        std::vector<std::string> table;
        for (uint32_t i = 0; i < classes; i++) {
            need(glosses[i], "a gloss");
            table.emplace_back(glosses[i]);
        }
        handle.decoder = make_decoder(table, resolve(options));
    });
}

void signedge_decoder_destroy(signedge_decoder *decoder) { delete decoder; }

signedge_status signedge_decoder_message(const signedge_decoder *decoder, char *buffer, uint32_t capacity,
                                         uint32_t *needed) {
    return copy_text(decoder ? decoder->message.text : no_handle, buffer, capacity, needed);
}

signedge_status signedge_decoder_push(signedge_decoder *decoder, const float *log_probs, uint32_t steps) {
    return call(decoder, "decoder", [&](auto &handle) {
        need(log_probs, "log_probs");
        if (handle.finished) {
            fail(SIGNEDGE_FINISHED, "the decoder has finished: reset it before the next clip");
        }
        handle.use().push(log_probs, steps);
    });
}

signedge_status signedge_decoder_finish(signedge_decoder *decoder) {
    return call(decoder, "decoder", [&](auto &handle) {
        if (!handle.finished) {
            handle.use().finish();
        }
        handle.finished = true;
    });
}

signedge_status signedge_decoder_poll(signedge_decoder *decoder, signedge_gloss *glosses, uint32_t item_size,
                                      uint32_t capacity, uint32_t *count) {
    return call(decoder, "decoder", [&](auto &handle) {
        need(count, "count");
        const GlossArray out(glosses, item_size, capacity);
        std::vector<Token> &fresh = handle.use().fresh;
        handle.preview.clear();
        if (!handle.finished) {
            handle.use().preview(nullptr, 0, handle.preview);
        }
        const uint32_t finals = hand_out(fresh, handle.taken, out, [](const Token &token) {
            return to_gloss(token, SIGNEDGE_GLOSS_FINAL, 1);
        });
        for (uint32_t i = 0; i < handle.preview.size(); i++) {
            out.put(finals + i, to_gloss(handle.preview[i], 0, 0.5f));
        }
        *count = finals + static_cast<uint32_t>(handle.preview.size());
    });
}

signedge_status signedge_decoder_nbest(const signedge_decoder *decoder, uint32_t rank, signedge_gloss *glosses,
                                       uint32_t item_size, uint32_t capacity, uint32_t *count, double *score) {
    return call(decoder, "decoder", [&](auto &handle) {
        need(count, "count");
        const GlossArray out(glosses, item_size, capacity);
        const std::vector<Hypothesis> &hypotheses = handle.use().hypotheses;
        if (!handle.finished || rank >= hypotheses.size()) {
            fail(SIGNEDGE_INVALID_ARGUMENT, "there is no hypothesis %u", rank);
        }
        const std::vector<Token> &tokens = hypotheses[rank].tokens;
        *count = static_cast<uint32_t>(tokens.size());
        for (uint32_t i = 0; i < *count; i++) {
            out.put(i, to_gloss(tokens[i], SIGNEDGE_GLOSS_FINAL, 1));
        }
        if (score) {
            *score = hypotheses[rank].score;
        }
    });
}

signedge_status signedge_decoder_reset(signedge_decoder *decoder) {
    return call(decoder, "decoder", [&](auto &handle) {
        handle.use().reset();
        handle.taken = 0;
        handle.finished = false;
    });
}

// -------------------------------------------------------------------------------------------------------- stream ---

signedge_status signedge_stream_create(signedge_model *model, const signedge_stream_options *options,
                                       signedge_stream **stream) {
    return create(stream, [&](signedge_stream &handle) {
        need(model, "model");
        const Contract &contract = model->use().contract;
        handle.stream = std::make_unique<Stream>(model->model, resolve(options, contract));
    });
}

void signedge_stream_destroy(signedge_stream *stream) { delete stream; }

signedge_status signedge_stream_message(const signedge_stream *stream, char *buffer, uint32_t capacity,
                                        uint32_t *needed) {
    return copy_text(stream ? stream->message.text : no_handle, buffer, capacity, needed);
}

signedge_status signedge_stream_push_frame(signedge_stream *stream, const signedge_frame *frame) {
    return call(stream, "stream", [&](auto &handle) {
        need(frame, "frame");
        handle.use().push(read_struct(frame, "signedge_frame"));
    });
}

signedge_status signedge_stream_push_keypoints(signedge_stream *stream, const signedge_keypoints *keypoints) {
    return call(stream, "stream", [&](auto &handle) {
        need(keypoints, "keypoints");
        handle.use().push(read_struct(keypoints, "signedge_keypoints"));
    });
}

signedge_status signedge_stream_step(signedge_stream *stream) {
    return call(stream, "stream", [&](auto &handle) {
        Stream *one = &handle.use();
        Stream::step(&one, 1);
    });
}

signedge_status signedge_streams_step(signedge_stream *const *streams, uint32_t count) {
    return guard(streams && count > 0 && streams[0] ? &streams[0]->message : nullptr, [&] {
        if (count == 0) {
            return;
        }
        need(streams, "streams");
        need(streams[0], "a stream");
        std::vector<Stream *> &together = streams[0]->use().companions();
        together.clear();
        for (uint32_t i = 0; i < count; i++) {
            need(streams[i], "a stream");
            together.push_back(&streams[i]->use());
            if (together[i]->model() != together[0]->model()) {
                fail(SIGNEDGE_INVALID_ARGUMENT, "stream %u is of another model than the first", i);
            }
        }
        Stream::step(together.data(), count);
    });
}

signedge_status signedge_stream_finish(signedge_stream *stream) {
    return call(stream, "stream", [&](auto &handle) {
        handle.use().finish();
    });
}

signedge_status signedge_stream_poll(signedge_stream *stream, signedge_gloss *glosses, uint32_t item_size,
                                     uint32_t capacity, uint32_t *count) {
    return call(stream, "stream", [&](auto &handle) {
        need(count, "count");
        const GlossArray out(glosses, item_size, capacity);
        *count = handle.use().poll(out);
    });
}

signedge_status signedge_stream_nbest(const signedge_stream *stream, uint32_t rank, signedge_gloss *glosses,
                                      uint32_t item_size, uint32_t capacity, uint32_t *count, double *score) {
    return call(stream, "stream", [&](auto &handle) {
        need(count, "count");
        const GlossArray out(glosses, item_size, capacity);
        double value = 0;
        *count = handle.use().nbest(rank, out, value);
        if (score) {
            *score = value;
        }
    });
}

signedge_status signedge_stream_reset(signedge_stream *stream) {
    return call(stream, "stream", [&](auto &handle) {
        handle.use().reset();
    });
}

signedge_status signedge_stream_get_statistics(const signedge_stream *stream, signedge_statistics *statistics) {
    return call(stream, "stream", [&](auto &handle) {
        write_struct(handle.use().statistics(), statistics, "signedge_statistics");
    });
}

}  // extern "C"
