// Internals of the handles and of the types passed with them.
#pragma once

#include <map>
#include <memory>

#include "bridge.hpp"
#include "pi0rt/src/device/ttnn/ffi.rs.h"
#include "sdk.hpp"

namespace pi0rt::ttnn {

namespace sdk = ::ttnn;
namespace metal = ::tt::tt_metal;

struct Tensor::Inner {
    metal::Tensor tensor;
};

struct Device::Inner {
    std::shared_ptr<metal::distributed::MeshDevice> mesh;
    std::map<uint32_t, sdk::MeshTraceId> traces;
    uint32_t next_trace = 1;
};

inline Handle wrap(metal::Tensor tensor) { return std::make_unique<Tensor>(Tensor::Inner{std::move(tensor)}); }

inline metal::DataType dtype_of(Dtype dtype) {
    switch (dtype) {
        case Dtype::F32: return metal::DataType::FLOAT32;
        case Dtype::Bfp8: return metal::DataType::BFLOAT8_B;
        case Dtype::Bfp4: return metal::DataType::BFLOAT4_B;
        default: return metal::DataType::BFLOAT16;
    }
}

inline metal::Shape shape_of(const Dims& dims) { return metal::Shape({dims[0], dims[1], dims[2], dims[3]}); }

inline metal::TensorSpec spec_of(const metal::Shape& shape, metal::DataType dtype, metal::Layout layout) {
    return metal::TensorSpec(shape, metal::TensorLayout(dtype, metal::PageConfig(layout), metal::MemoryConfig{}));
}

}  // namespace pi0rt::ttnn
