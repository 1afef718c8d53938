// Transfers between host and device memory.
#include "inner.hpp"

#include <algorithm>
#include <bit>
#include <stdexcept>
#include <vector>

namespace pi0rt::ttnn {

static_assert(sizeof(bfloat16) == sizeof(uint16_t));

/// A host tensor of `shape`; block floats are packed from f32 by TTNN.
static metal::Tensor host_tensor(
    rust::Slice<const float> values, const metal::Shape& shape, metal::DataType dtype,
    metal::distributed::MeshDevice* device) {
    const auto spec = spec_of(shape, dtype, metal::Layout::TILE);
    if (dtype == metal::DataType::BFLOAT16) {
        std::vector<bfloat16> rounded(values.size());
        std::transform(values.begin(), values.end(), rounded.begin(), [](float value) { return bfloat16(value); });
        return metal::Tensor::from_span<bfloat16>(ttsl::Span<const bfloat16>(rounded.data(), rounded.size()), spec, device);
    }
    return metal::Tensor::from_span<float>(ttsl::Span<const float>(values.data(), values.size()), spec, device);
}

Handle upload(const Device& device, rust::Slice<const float> values, Dims dims, Dtype dtype) {
    return wrap(host_tensor(values, shape_of(dims), dtype_of(dtype), device.inner->mesh.get()));
}

/// A host tensor that reads its rows in place: TTNN's span is not const, but nothing is written through it.
static metal::Tensor borrowed(rust::Slice<const uint16_t> bf16, const metal::Shape& shape) {
    auto* values = const_cast<bfloat16*>(reinterpret_cast<const bfloat16*>(bf16.data()));
    return metal::Tensor::from_borrowed_data<bfloat16>(
        ttsl::Span<bfloat16>(values, bf16.size()), shape,
        metal::MemoryPin(std::shared_ptr<void>(values, [](void*) {})));
}

Handle upload_rows(const Device& device, rust::Slice<const uint16_t> bf16, uint32_t rows, uint32_t cols) {
    return wrap(borrowed(bf16, metal::Shape({rows, cols})).to_device(device.inner->mesh.get()));
}

Handle rows(const Device& device, Dims dims) {
    const std::vector<bfloat16> zeros(std::size_t{dims[0]} * dims[1] * dims[2] * dims[3]);
    return wrap(metal::Tensor::from_span<bfloat16>(
        ttsl::Span<const bfloat16>(zeros.data(), zeros.size()),
        spec_of(shape_of(dims), metal::DataType::BFLOAT16, metal::Layout::ROW_MAJOR), device.inner->mesh.get()));
}

Handle ids(const Device& device, uint32_t count) {
    const std::vector<uint32_t> zeros(count);
    return wrap(metal::Tensor::from_span<uint32_t>(
        ttsl::Span<const uint32_t>(zeros.data(), zeros.size()),
        spec_of(metal::Shape({1, count}), metal::DataType::UINT32, metal::Layout::ROW_MAJOR), device.inner->mesh.get()));
}

void write(Tensor& tensor, rust::Slice<const float> values, uint8_t queue) {
    auto& to = tensor.inner->tensor;
    metal::copy_to_device(host_tensor(values, to.logical_shape(), to.dtype(), nullptr), to, metal::QueueId(queue));
}

void write_rows(Tensor& tensor, rust::Slice<const uint16_t> bf16, uint8_t queue) {
    auto& to = tensor.inner->tensor;
    metal::copy_to_device(borrowed(bf16, to.logical_shape()), to, metal::QueueId(queue));
}

void write_ids(Tensor& tensor, rust::Slice<const uint32_t> values, uint8_t queue) {
    auto& to = tensor.inner->tensor;
    const auto host = metal::Tensor::from_span<uint32_t>(
        ttsl::Span<const uint32_t>(values.data(), values.size()), to.tensor_spec());
    metal::copy_to_device(host, to, metal::QueueId(queue));
}

void read(const Tensor& tensor, rust::Slice<float> out) {
    const auto& from = tensor.inner->tensor;
    if (from.logical_shape().volume() != out.size()) {
        throw std::length_error(
            "read: the tensor has " + std::to_string(from.logical_shape().volume()) + " values, not " +
            std::to_string(out.size()));
    }
    if (from.dtype() == metal::DataType::BFLOAT16) {
        const auto values = from.to_vector<bfloat16>();
        std::transform(values.begin(), values.end(), out.begin(), [](bfloat16 value) { return static_cast<float>(value); });
    } else {
        const auto values = from.to_vector<float>();
        std::copy(values.begin(), values.end(), out.begin());
    }
}

Dims dims(const Tensor& tensor) {
    const auto& shape = tensor.inner->tensor.logical_shape();
    Dims dims{1, 1, 1, 1};
    for (std::size_t i = 0; i < shape.rank() && i < 4; i++) {
        dims[3 - i] = shape[-1 - static_cast<int32_t>(i)];
    }
    return dims;
}

Handle share(const Tensor& tensor) { return wrap(tensor.inner->tensor); }

}  // namespace pi0rt::ttnn
