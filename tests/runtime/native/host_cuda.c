/* A stand-in for the CUDA driver whose device is host memory: what runtime/trt/cuda.py calls, called as it must be.
 *
 * Work is done at once, except between the begin and the end of a capture. $HOST_CUDA_CAPABILITY is "8.7" or the like;
 * $HOST_CUDA_ERROR, where set, is what cuInit answers. host_cuda_live() counts what was made and not given back. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int live, capturing, launches;
static void *current;

static int made(void **handle) {
    *handle = malloc(1);
    live++;
    return 0;
}
static int gone(void *handle) {
    free(handle);
    live--;
    return 0;
}

int host_cuda_live(void) { return live; }
int host_cuda_launches(void) { return launches; }
int host_cuda_capturing(void) { return capturing; }

int cuInit(unsigned flags) {
    const char *error = getenv("HOST_CUDA_ERROR");
    return flags ? 1 : error ? atoi(error) : 0;
}
int cuDriverGetVersion(int *version) { return *version = 12060, 0; }
int cuDeviceGet(int *device, int ordinal) { return *device = ordinal, ordinal ? 101 : 0; }
int cuDeviceGetName(char *name, int size, int device) { return strncpy(name, "Stand-in", (size_t)size), device; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    const char *capability = getenv("HOST_CUDA_CAPABILITY");
    if (!capability) capability = "8.7";
    if (attribute == 16) *value = 8;
    else if (attribute == 75) *value = atoi(capability);
    else if (attribute == 76) *value = atoi(strchr(capability, '.') + 1);
    else return 1;
    return device;
}
int cuDevicePrimaryCtxRetain(void **context, int device) { return *context = &live, device; }
int cuCtxGetCurrent(void **context) { return *context = current, 0; }
int cuCtxSetCurrent(void *context) { return current = context, 0; }

int cuMemAlloc_v2(uint64_t *address, size_t size) {
    *address = (uint64_t)malloc(size);
    live++;
    return current ? 0 : 201;
}
int cuMemFree_v2(uint64_t address) { return gone((void *)address); }
int cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t size, void *stream) {
    return memcpy((void *)to, from, size), stream ? 0 : 400;
}
int cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t size, void *stream) {
    return memcpy(to, (void *)from, size), stream ? 0 : 400;
}
int cuStreamCreate(void **stream, unsigned flags) { return flags == 1 ? made(stream) : 1; }
int cuStreamSynchronize(void *stream) { return stream && !capturing ? 0 : 900; }
int cuStreamDestroy_v2(void *stream) { return gone(stream); }
int cuStreamBeginCapture_v2(void *stream, int mode) { return capturing = 1, stream && mode == 1 ? 0 : 1; }
int cuStreamEndCapture(void *stream, void **graph) { return capturing = 0, stream ? made(graph) : 1; }
int cuGraphInstantiateWithFlags(void **launchable, void *graph, unsigned long long flags) {
    return graph && !flags ? made(launchable) : 1;
}
int cuGraphLaunch(void *launchable, void *stream) { return launches++, launchable && stream ? 0 : 1; }
int cuGraphDestroy(void *graph) { return gone(graph); }
int cuGraphExecDestroy(void *launchable) { return gone(launchable); }
int cuEventCreate(void **event, unsigned flags) { return flags ? 1 : made(event); }
int cuEventRecord(void *event, void *stream) { return event && stream ? 0 : 1; }
int cuEventSynchronize(void *event) { return event ? 0 : 1; }
int cuEventElapsedTime(float *milliseconds, void *first, void *last) {
    return *milliseconds = 1.5f, first && last && first != last ? 0 : 1;
}
int cuEventDestroy_v2(void *event) { return gone(event); }

/* How cuda-python finds the others: by their names without a version. */
int cuGetProcAddress_v2(const char *name, void **function, int version, uint64_t flags, int *found) {
    char versioned[128];
    (void)version, (void)flags;
    snprintf(versioned, sizeof versioned, "%s_v2", name);
    *function = dlsym(RTLD_DEFAULT, versioned);
    if (!*function) *function = dlsym(RTLD_DEFAULT, name);
    if (!*function && !strcmp(name, "cuGraphInstantiate")) *function = dlsym(RTLD_DEFAULT, "cuGraphInstantiateWithFlags");
    if (found) *found = *function ? 0 : 1;
    return *function ? 0 : 500;
}
int cuGetProcAddress(const char *name, void **function, int version, uint64_t flags) {
    return cuGetProcAddress_v2(name, function, version, flags, NULL);
}
