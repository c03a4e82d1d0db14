// Whatever bytes as an ONNX file: its metadata and its weights are looked for without reading past the end.
#include <algorithm>
#include <memory>

#include "engine_file.hpp"
#include "refused.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const std::unique_ptr<uint8_t[]> bytes(new uint8_t[size]);  // of this size exactly, for the address sanitizer
    std::copy_n(data, size, bytes.get());
    std::string value;
    fuzz::take_or_refuse(SIGNEDGE_BAD_FILE,
                         [&] { signedge::onnx_metadata(bytes.get(), size, "signedge.contract", value); });
    fuzz::take_or_refuse(SIGNEDGE_BAD_FILE, [&] { signedge::onnx_has_external_data(bytes.get(), size); });
    return 0;
}
