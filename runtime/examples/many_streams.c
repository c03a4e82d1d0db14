/* many_streams.c: many signers on one model: streams stepped together, on all cores, beside stepped one by one.
 *
 *   many_streams ENGINE [STREAMS [FRAMES]]       64 streams of 256 frames each, if you do not say
 *
 * The frames (or keypoints) are noise that a generator makes, so the glosses mean nothing; the work is the same.
 */
#define _POSIX_C_SOURCE 200809L
#include <signedge.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { most_streams = 1024, width = 320, height = 240, period_ns = 40000000 };

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

/* The next value of a generator whose whole state is *seed: the same seed gives the same frames. */
static uint32_t noise(uint32_t *seed) {
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 24;
}

static signedge_status push(signedge_stream *stream, const signedge_model_info *info, void *room, uint32_t *seed,
                            uint32_t number) {
    uint32_t i;
    if (info->input == SIGNEDGE_INPUT_RGB) {
        signedge_frame frame;
        unsigned char *pixels = room;
        memset(pixels, (int)noise(seed), (size_t)width * height * 3);
        for (i = 0; i < width * 3; i++) { /* a row of noise in a frame of one grey */
            pixels[(number % height) * width * 3 + i] = (unsigned char)noise(seed);
        }
        memset(&frame, 0, sizeof frame);
        frame.struct_size = sizeof frame;
        frame.format = SIGNEDGE_PIXELS_RGB;
        frame.width = width;
        frame.height = height;
        frame.timestamp_ns = (int64_t)number * period_ns;
        frame.planes[0] = pixels;
        return signedge_stream_push_frame(stream, &frame);
    } else {
        signedge_keypoints keypoints;
        float *points = room;
        for (i = 0; i < info->joints * 3; i++) {
            points[i] = (float)noise(seed) / 256;
        }
        memset(&keypoints, 0, sizeof keypoints);
        keypoints.struct_size = sizeof keypoints;
        keypoints.joints = info->joints;
        keypoints.points = points;
        keypoints.timestamp_ns = (int64_t)number * period_ns;
        return signedge_stream_push_keypoints(stream, &keypoints);
    }
}

static signedge_status step(signedge_stream **streams, uint32_t count, int together) {
    signedge_status status = SIGNEDGE_OK;
    uint32_t i;
    if (together) {
        return signedge_streams_step(streams, count);
    }
    for (i = 0; i < count && status == SIGNEDGE_OK; i++) {
        status = signedge_stream_step(streams[i]);
    }
    return status;
}

/* Glosses that are final now; their ids go into *sum, so that two ways of stepping can be compared. */
static signedge_status collect(signedge_stream *stream, uint64_t *sum) {
    signedge_gloss glosses[64];
    uint32_t count = 0, i;
    do {
        const signedge_status status = signedge_stream_poll(stream, glosses, sizeof glosses[0], 64, &count);
        if (status != SIGNEDGE_OK) {
            return status;
        }
        for (i = 0; i < count && i < 64; i++) {
            *sum = *sum * 31 + glosses[i].id * 1000003u + glosses[i].start_step;
        }
    } while (count > 64);
    return SIGNEDGE_OK;
}

/* Feed every stream `frames` frames; seconds spent in steps alone. */
static signedge_status feed(signedge_stream **streams, uint32_t count, const signedge_model_info *info, void *room,
                            uint32_t frames, int together, double *seconds, uint64_t *sum) {
    signedge_status status = SIGNEDGE_OK;
    uint32_t seeds[most_streams], frame, i;
    *seconds = 0;
    *sum = 0;
    for (i = 0; i < count; i++) {
        seeds[i] = i + 1;
    }
    for (frame = 0; frame <= frames && status == SIGNEDGE_OK; frame++) {
        double start;
        for (i = 0; i < count && status == SIGNEDGE_OK; i++) {
            status = frame < frames ? push(streams[i], info, room, &seeds[i], frame) : signedge_stream_finish(streams[i]);
        }
        start = now();
        status = status == SIGNEDGE_OK ? step(streams, count, together) : status;
        *seconds += now() - start;
    }
    for (i = 0; i < count && status == SIGNEDGE_OK; i++) {
        status = collect(streams[i], sum);
        status = status == SIGNEDGE_OK ? signedge_stream_reset(streams[i]) : status;
    }
    return status;
}

/* One by one a run has all cores; together there are as many runs at once as cores, a thread each. */
static signedge_status measure(const char *engine, uint32_t count, uint32_t frames, int together, double *seconds,
                               uint64_t *sum, char message[1024]) {
    signedge_stream *streams[most_streams] = {NULL};
    signedge_model *model = NULL;
    signedge_model_options options;
    signedge_model_info info;
    signedge_status status;
    void *room = NULL;
    uint32_t i;
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.threads = together ? 1 : 0;
    options.workers = together ? (int32_t)sysconf(_SC_NPROCESSORS_ONLN) : 0;
    memset(&info, 0, sizeof info);
    info.struct_size = sizeof info;
    status = signedge_model_open(engine, &options, &model);
    signedge_model_message(model, message, 1024, NULL);
    if (status == SIGNEDGE_OK) {
        status = signedge_model_get_info(model, &info);
        room = malloc(info.joints > 0 ? info.joints * 3 * sizeof(float) : (size_t)width * height * 3);
        status = room ? status : SIGNEDGE_OUT_OF_MEMORY;
    }
    for (i = 0; i < count && status == SIGNEDGE_OK; i++) {
        status = signedge_stream_create(model, NULL, &streams[i]);
    }
    if (status == SIGNEDGE_OK) { /* once unmeasured: first runs prepare the network */
        status = feed(streams, count, &info, room, 32, together, seconds, sum);
    }
    if (status == SIGNEDGE_OK) {
        status = feed(streams, count, &info, room, frames, together, seconds, sum);
    }
    for (i = 0; i < count; i++) {
        if (status != SIGNEDGE_OK && !message[0]) {
            signedge_stream_message(streams[i], message, streams[i] ? 1024 : 0, NULL);
        }
        signedge_stream_destroy(streams[i]);
    }
    signedge_model_destroy(model);
    free(room);
    return status;
}

int main(int argc, char **argv) {
    const unsigned long count = argc > 2 ? strtoul(argv[2], NULL, 10) : 64, frames = argc > 3 ? strtoul(argv[3], NULL, 10) : 256;
    signedge_status status;
    char message[1024] = "";
    double alone = 0, together = 0;
    uint64_t sum_alone = 0, sum_together = 0;
    if (argc < 2 || count < 1 || count > most_streams || frames < 1 || frames > 1000000) {
        fprintf(stderr, "usage: %s ENGINE [STREAMS [FRAMES]]     1 to %d streams\n", argv[0], most_streams);
        return 2;
    }
    status = measure(argv[1], (uint32_t)count, (uint32_t)frames, 0, &alone, &sum_alone, message);
    if (status == SIGNEDGE_OK) {
        status = measure(argv[1], (uint32_t)count, (uint32_t)frames, 1, &together, &sum_together, message);
    }
    if (status != SIGNEDGE_OK) {
        fprintf(stderr, "%s: %s\n", signedge_status_name(status), message);
        return 1;
    }
    printf("%lu streams of %lu frames\n", count, frames);
    printf("  one by one  %10.0f frames/s\n", (double)(count * frames) / alone);
    printf("  together    %10.0f frames/s, %.2f times as many\n", (double)(count * frames) / together, alone / together);
    printf("  glosses     %s\n", sum_alone == sum_together ? "the same" : "DIFFERENT");
    return sum_alone != sum_together;
}
