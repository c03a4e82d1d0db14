// recognise.mjs: glosses of raw RGB frames in Node, by FFI.
//
//   npm install                      once, in this folder: koffi, which calls C
//   ffmpeg -i clip.mp4 -f rawvideo -pix_fmt rgb24 - | node recognise.mjs ENGINE 640 480 25
//
// $SIGNEDGE_LIBRARY names libsignedge.so; else it is taken from where `make library` builds it. $SIGNEDGE_ONNXRUNTIME_LIBRARY names ONNX Runtime.
import { readSync } from 'node:fs';
import koffi from 'koffi';

const RGB = 1, FINAL = 1, OK = 0, ROOM = 64;
const path = process.env.SIGNEDGE_LIBRARY ?? new URL('../../../build/runtime/libsignedge.so', import.meta.url).pathname;
const library = koffi.load(path);

const Gloss = koffi.struct('signedge_gloss', {
    id: 'uint32_t', flags: 'uint32_t', start_ns: 'int64_t', end_ns: 'int64_t', start_step: 'uint64_t',
    end_step: 'uint64_t', confidence: 'float', stability: 'float',
});
const Info = koffi.struct('signedge_model_info', {
    struct_size: 'uint32_t', input: 'int32_t', width: 'uint32_t', height: 'uint32_t', joints: 'uint32_t',
    classes: 'uint32_t', frame_stride: 'uint32_t', lookahead: 'int32_t', chunk: 'uint32_t', shift: 'uint32_t',
    frames: 'uint32_t', fps: 'double',
});
// A struct says how much of it there is: what this example leaves to its default is left out at the end.
const StreamOptions = koffi.struct('signedge_stream_options', {
    struct_size: 'uint32_t', chunk: 'uint32_t', shift: 'uint32_t', lookahead: 'uint32_t', queue: 'uint32_t',
    when_full: 'int32_t', resample: 'int32_t',
});
const Frame = koffi.struct('signedge_frame', {
    struct_size: 'uint32_t', format: 'int32_t', width: 'uint32_t', height: 'uint32_t', timestamp_ns: 'int64_t',
    planes: koffi.array('void *', 3), strides: koffi.array('uint32_t', 3), colour: 'int32_t',
    crop_x: 'uint32_t', crop_y: 'uint32_t', crop_width: 'uint32_t', crop_height: 'uint32_t',
});

const declare = (result, name, parameters) => library.func(`${result} signedge_${name}(${parameters})`);
const modelOpen = declare('int32_t', 'model_open', 'const char *path, const void *options, _Out_ void **model');
const modelDestroy = declare('void', 'model_destroy', 'void *model');
const modelMessage = declare('int32_t', 'model_message', 'void *model, _Out_ uint8_t *text, uint32_t room, void *needed');
const modelInfo = declare('int32_t', 'model_get_info', 'void *model, _Inout_ signedge_model_info *info');
const modelGloss = declare('const char *', 'model_gloss', 'void *model, uint32_t id');
const streamCreate = declare('int32_t', 'stream_create',
    'void *model, const signedge_stream_options *options, _Out_ void **stream');
const streamDestroy = declare('void', 'stream_destroy', 'void *stream');
const streamMessage = declare('int32_t', 'stream_message', 'void *stream, _Out_ uint8_t *text, uint32_t room, void *needed');
const pushFrame = declare('int32_t', 'stream_push_frame', 'void *stream, const signedge_frame *frame');
const streamStep = declare('int32_t', 'stream_step', 'void *stream');
const streamFinish = declare('int32_t', 'stream_finish', 'void *stream');
const streamPoll = declare('int32_t', 'stream_poll',
    'void *stream, void *glosses, uint32_t item_size, uint32_t capacity, _Out_ uint32_t *count');

function check(status, message, handle) {
    if (status !== OK) {
        const text = Buffer.alloc(1024);
        message(handle, text, text.length, null);
        throw new Error(text.toString('utf8', 0, text.indexOf(0)) || `status ${status}`);
    }
}

// Fill the frame from standard input; false at its end.
function readFrame(pixels) {
    for (let got = 0; got < pixels.length;) {
        const more = readSync(0, pixels, got, pixels.length - got);
        if (more === 0) {
            return false;
        }
        got += more;
    }
    return true;
}

function printFinal(model, stream, glosses) {
    const count = [0];
    let finals;
    do {
        check(streamPoll(stream, glosses, koffi.sizeof(Gloss), ROOM, count), streamMessage, stream);
        const shown = koffi.decode(glosses, koffi.array(Gloss, ROOM)).slice(0, Math.min(count[0], ROOM));
        const final = shown.filter((gloss) => gloss.flags & FINAL);
        for (const gloss of final) {
            console.log((Number(gloss.start_ns) * 1e-9).toFixed(3), modelGloss(model, gloss.id));
        }
        finals = final.length;
    } while (finals === ROOM);
}

function recognise(model, stream, width, height, fps) {
    const pixels = Buffer.alloc(width * height * 3), glosses = Buffer.alloc(koffi.sizeof(Gloss) * ROOM);
    const side = Math.min(width, height); // the centre square, as in training
    const frame = {
        struct_size: koffi.sizeof(Frame), format: RGB, width, height, timestamp_ns: 0, planes: [pixels, null, null],
        strides: [0, 0, 0], colour: 0, crop_x: (width - side) >> 1, crop_y: (height - side) >> 1,
        crop_width: side, crop_height: side,
    };
    for (let number = 0; readFrame(pixels); number++) {
        frame.timestamp_ns = Math.round(number * 1e9 / fps);
        check(pushFrame(stream, frame), streamMessage, stream);
        check(streamStep(stream), streamMessage, stream);
        printFinal(model, stream, glosses);
    }
    check(streamFinish(stream), streamMessage, stream);
    check(streamStep(stream), streamMessage, stream);
    printFinal(model, stream, glosses);
}

const [engine, width, height, fps] = process.argv.slice(2).map((word, index) => (index ? Number(word) : word));
if (!(width > 0 && height > 0 && fps > 0)) {
    console.error('usage: node recognise.mjs ENGINE WIDTH HEIGHT FPS < frames');
    process.exit(2);
}
const model = [null], stream = [null];
try {
    check(modelOpen(engine, null, model), modelMessage, model[0]);
    const info = { struct_size: koffi.sizeof(Info) };
    check(modelInfo(model[0], info), modelMessage, model[0]);
    const options = { struct_size: koffi.sizeof(StreamOptions), resample: Math.abs(fps / info.fps - 1) > 0.01 ? 1 : 0 };
    check(streamCreate(model[0], options, stream), streamMessage, stream[0]);
    recognise(model[0], stream[0], width, height, fps);
} catch (error) {
    console.error(`${engine}: ${error.message}`);
    process.exitCode = 1;
} finally {
    streamDestroy(stream[0]);
    modelDestroy(model[0]);
}
