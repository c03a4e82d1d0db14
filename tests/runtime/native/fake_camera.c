/* A camera of Video4Linux for programs that are started with LD_PRELOAD: any regular file is one.
 *
 * The file holds room for buffers (whole pages), then frames, one every 40 ms: $FAKE_CAMERA says "FOURCC width height
 * bytesperline frame_bytes frames". After the last frame it is unplugged, or interrupts the program ($FAKE_CAMERA_END=interrupt).
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <linux/videodev2.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { buffers = 4 };

static struct {
    char fourcc[5];
    unsigned width, height, stride, bytes, frames;
} shown;
static unsigned next_frame, queued[buffers], first_queued, last_queued;

static unsigned page(unsigned bytes) { return (bytes + 4095) / 4096 * 4096; }

static void describe(struct v4l2_pix_format *pix) {
    memset(pix, 0, sizeof *pix);
    pix->width = shown.width;
    pix->height = shown.height;
    pix->pixelformat = v4l2_fourcc(shown.fourcc[0], shown.fourcc[1], shown.fourcc[2], shown.fourcc[3]);
    pix->field = V4L2_FIELD_NONE;
    pix->bytesperline = shown.stride;
    pix->sizeimage = shown.bytes;
    pix->colorspace = V4L2_COLORSPACE_SMPTE170M;
}

/* Whether a signal may end a call of this thread. */
static int taken_here(int number) {
    sigset_t blocked;
    pthread_sigmask(SIG_BLOCK, NULL, &blocked);
    return !sigismember(&blocked, number);
}

static int take(int fd, struct v4l2_buffer *buffer) {
    char room[1 << 20];
    if (first_queued == last_queued) {
        errno = EAGAIN;
        return -1;
    }
    if (next_frame == shown.frames) {
        const char *end = getenv("FAKE_CAMERA_END");
        if (end && strcmp(end, "interrupt") == 0) {
            kill(getpid(), SIGINT);
            while (!taken_here(SIGINT)) {
                usleep(10000); /* as a camera that has no frame */
            }
            errno = EINTR;
        } else {
            errno = ENODEV;
        }
        return -1;
    }
    buffer->index = queued[first_queued++ % buffers];
    buffer->bytesused = shown.bytes;
    buffer->flags = V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC;
    buffer->timestamp.tv_sec = 1000 + next_frame / 25;
    buffer->timestamp.tv_usec = next_frame % 25 * 40000;
    if (pread(fd, room, shown.bytes, buffers * (off_t)page(shown.bytes) + (off_t)next_frame * shown.bytes) < 0 ||
        pwrite(fd, room, shown.bytes, buffer->index * (off_t)page(shown.bytes)) < 0) {
        return -1;
    }
    next_frame++;
    return 0;
}

static int answer(int fd, unsigned long code, void *argument) {
    switch (code) {
        case VIDIOC_QUERYCAP:
            memset(argument, 0, sizeof(struct v4l2_capability));
            ((struct v4l2_capability *)argument)->capabilities = V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_STREAMING;
            return 0;
        case VIDIOC_G_FMT:
        case VIDIOC_S_FMT:
            describe(&((struct v4l2_format *)argument)->fmt.pix);
            return 0;
        case VIDIOC_G_PARM:
        case VIDIOC_S_PARM: {
            struct v4l2_streamparm *parameters = argument;
            parameters->parm.capture.capability = V4L2_CAP_TIMEPERFRAME;
            parameters->parm.capture.timeperframe.numerator = 1;
            parameters->parm.capture.timeperframe.denominator = 25;
            return 0;
        }
        case VIDIOC_REQBUFS:
            ((struct v4l2_requestbuffers *)argument)->count = buffers;
            return 0;
        case VIDIOC_QUERYBUF:
            ((struct v4l2_buffer *)argument)->length = shown.bytes;
            ((struct v4l2_buffer *)argument)->m.offset = ((struct v4l2_buffer *)argument)->index * page(shown.bytes);
            return 0;
        case VIDIOC_QBUF:
            queued[last_queued++ % buffers] = ((struct v4l2_buffer *)argument)->index;
            return 0;
        case VIDIOC_DQBUF:
            return take(fd, argument);
        case VIDIOC_STREAMON:
        case VIDIOC_STREAMOFF:
        case VIDIOC_G_INPUT:
        case VIDIOC_S_INPUT:
        case VIDIOC_ENUMINPUT:
            return 0;
        default:
            errno = EINVAL;
            return -1;
    }
}

int ioctl(int fd, unsigned long code, ...) {
    struct stat status;
    va_list rest;
    void *argument;
    va_start(rest, code);
    argument = va_arg(rest, void *);
    va_end(rest);
    if (_IOC_TYPE(code) != 'V' || fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
        int (*original)(int, unsigned long, ...) = (int (*)(int, unsigned long, ...))dlsym(RTLD_NEXT, "ioctl");
        return original(fd, code, argument);
    }
    if (!shown.frames) {
        const char *told = getenv("FAKE_CAMERA");
        if (!told || sscanf(told, "%4s %u %u %u %u %u", shown.fourcc, &shown.width, &shown.height, &shown.stride,
                            &shown.bytes, &shown.frames) != 6) {
            abort();
        }
    }
    return answer(fd, code, argument);
}
