// Tensors: shapes, padding, rounding, transfers.
#include "internal.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

bfloat16::bfloat16(float value) {
    auto bits = std::bit_cast<uint32_t>(value);
    // Round to nearest even; NaN stays NaN.
    bits_ = (bits & 0x7fffffffu) > 0x7f800000u
                ? static_cast<uint16_t>(bits >> 16 | 0x40u)
                : static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}
bfloat16::operator float() const { return std::bit_cast<float>(uint32_t{bits_} << 16); }

namespace tt::tt_metal {

using namespace emulation;

uint32_t Shape::operator[](int32_t index) const { return const_cast<Shape&>(*this)[index]; }
uint32_t& Shape::operator[](int32_t index) {
    const auto at = index < 0 ? index + static_cast<int32_t>(rank()) : index;
    DEMAND(at >= 0 && at < static_cast<int32_t>(rank()), "dimension ", index, " of a shape of rank ", rank());
    return dims_[at];
}
std::size_t Shape::volume() const {
    std::size_t volume = 1;
    for (auto dim : dims_) {
        volume *= dim;
    }
    return volume;
}
std::string to_string(const Shape& shape) {
    std::ostringstream text;
    for (auto dim : shape.view()) {
        text << (text.tellp() > 0 ? ", " : "[") << dim;
    }
    return text.str() + "]";
}

Shape TensorSpec::padded_shape() const {
    Shape padded = shape_;
    if (layout() == Layout::TILE) {
        padded[-1] = round_up(padded[-1], TILE);
        padded[-2] = round_up(padded[-2], TILE);
    }
    return padded;
}

struct Tensor::Attributes {
    TensorSpec spec;
    std::vector<float> host;
    std::shared_ptr<Allocation> allocation;
    bool on_host = false;
};

const TensorSpec& Tensor::spec() const {
    DEMAND(attributes_, "an empty tensor");
    return attributes_->spec;
}

bool Tensor::is_allocated() const {
    return attributes_ && (attributes_->on_host || attributes_->allocation);
}

distributed::MeshDevice* Tensor::device() const {
    DEMAND(attributes_ && attributes_->allocation, "a tensor that is not on a device");
    return attributes_->allocation->device;
}

void Tensor::deallocate(bool force) {
    if (!attributes_ || !attributes_->allocation) {
        return;
    }
    if (force || attributes_.use_count() == 1) {
        attributes_->allocation.reset();
    }
}

namespace emulation {

Tensor Access::host(const TensorSpec& spec, std::vector<float> logical) {
    Tensor tensor;
    tensor.attributes_ = std::make_shared<Tensor::Attributes>(Tensor::Attributes{spec, std::move(logical), {}, true});
    return tensor;
}
Tensor Access::on_device(const TensorSpec& spec, std::shared_ptr<Allocation> allocation) {
    Tensor tensor;
    tensor.attributes_ = std::make_shared<Tensor::Attributes>(Tensor::Attributes{spec, {}, std::move(allocation), false});
    return tensor;
}
Tensor Access::view(const Tensor& tensor, const TensorSpec& spec) {
    data(tensor, "view");
    return on_device(spec, tensor.attributes_->allocation);
}
const std::vector<float>& Access::host_values(const Tensor& tensor) {
    DEMAND(on_host(tensor), "a tensor on the host is needed");
    return tensor.attributes_->host;
}
bool Access::on_host(const Tensor& tensor) { return tensor.attributes_ && tensor.attributes_->on_host; }
std::shared_ptr<Data> Access::data(const Tensor& tensor, const char* op) {
    DEMAND(!on_host(tensor), "Operands to ", op, " need to be on device!");
    DEMAND(
        tensor.attributes_ && tensor.attributes_->allocation && tensor.attributes_->allocation->data->live,
        "Operands to ", op, " need to be allocated in buffers on device!");
    return tensor.attributes_->allocation->data;
}

Tiles::Tiles(const Tensor& tensor) {
    const auto shape = tensor.logical_shape(), padded = tensor.padded_shape();
    rows = shape[-2];
    cols = shape[-1];
    padded_rows = padded[-2];
    padded_cols = padded[-1];
    stack = padded.volume() / (padded_rows * padded_cols);
}

/// Mantissa bits of a block float, hidden one included.
static void round_block(std::span<float> block, int bits) {
    float most = 0;
    for (float value : block) {
        most = std::max(most, std::fabs(value));
    }
    if (most == 0 || !std::isfinite(most)) {
        return;
    }
    int exponent;
    std::frexp(most, &exponent);
    const float unit = std::ldexp(1.0f, exponent - bits), limit = std::ldexp(1.0f, exponent) - unit;
    for (float& value : block) {
        value = std::clamp(std::nearbyint(value / unit) * unit, -limit, limit);
    }
}

void round_to(DataType dtype, std::vector<float>& values, std::size_t padded_cols) {
    switch (dtype) {
        case DataType::BFLOAT16:
            for (float& value : values) {
                value = static_cast<float>(bfloat16(value));
            }
            break;
        case DataType::BFLOAT8_B:
        case DataType::BFLOAT4_B:
            LIMIT(padded_cols % 16 == 0, "block floats lie in tiles");
            for (std::size_t i = 0; i < values.size(); i += 16) {
                round_block(std::span(values).subspan(i, 16), dtype == DataType::BFLOAT8_B ? 7 : 3);
            }
            break;
        default: break;
    }
}

std::vector<float> pad(const TensorSpec& spec, const std::vector<float>& logical, float value) {
    const auto shape = spec.logical_shape(), padded = spec.padded_shape();
    if (shape == padded) {
        return logical;
    }
    const std::size_t rows = shape[-2], cols = shape[-1], height = padded[-2], width = padded[-1];
    std::vector<float> out(padded.volume(), value);
    for (std::size_t m = 0; m < padded.volume() / (height * width); m++) {
        for (std::size_t r = 0; r < rows; r++) {
            std::memcpy(&out[(m * height + r) * width], &logical[(m * rows + r) * cols], cols * sizeof(float));
        }
    }
    return out;
}

std::vector<float> unpad(const TensorSpec& spec, const std::vector<float>& values) {
    const auto shape = spec.logical_shape(), padded = spec.padded_shape();
    if (shape == padded) {
        return values;
    }
    const std::size_t rows = shape[-2], cols = shape[-1], height = padded[-2], width = padded[-1];
    std::vector<float> out(shape.volume());
    for (std::size_t m = 0; m < padded.volume() / (height * width); m++) {
        for (std::size_t r = 0; r < rows; r++) {
            std::memcpy(&out[(m * rows + r) * cols], &values[(m * height + r) * width], cols * sizeof(float));
        }
    }
    return out;
}

uint64_t bytes_of(const TensorSpec& spec) {
    const uint64_t elements = spec.padded_shape().volume();
    uint64_t bytes = 0;
    switch (spec.data_type()) {
        case DataType::BFLOAT16: bytes = elements * 2; break;
        // A tile: 64 shared exponents and 1024 mantissas.
        case DataType::BFLOAT8_B: bytes = elements / 1024 * 1088; break;
        case DataType::BFLOAT4_B: bytes = elements / 1024 * 576; break;
        default: bytes = elements * 4;
    }
    return (bytes + 63) / 64 * 64;
}

std::vector<float> read_back(const Tensor& tensor);

}  // namespace emulation

template <typename T>
static constexpr DataType dtype_of() {
    if constexpr (std::is_same_v<T, bfloat16>) {
        return DataType::BFLOAT16;
    } else if constexpr (std::is_same_v<T, uint32_t>) {
        return DataType::UINT32;
    } else {
        return DataType::FLOAT32;
    }
}

template <typename T>
static void matches(DataType dtype) {
    const bool block = dtype == DataType::BFLOAT8_B || dtype == DataType::BFLOAT4_B;
    DEMAND(
        dtype == dtype_of<T>() || (block && dtype_of<T>() == DataType::FLOAT32),
        "the buffer's element type does not match the tensor's dtype");
}

template <typename T>
Tensor Tensor::from_span(
    ttsl::Span<const T> buffer, const TensorSpec& spec, distributed::MeshDevice* device,
    std::optional<QueueId> cq_id, T) {
    matches<T>(spec.data_type());
    DEMAND(
        buffer.size() == spec.logical_shape().volume(), "Current buffer size is ", buffer.size(),
        ", but the shape is ", to_string(spec.logical_shape()));
    std::vector<float> values(buffer.size());
    std::transform(buffer.begin(), buffer.end(), values.begin(), [](T value) { return static_cast<float>(value); });
    auto host = Access::host(spec, std::move(values));
    return device ? host.to_device(device, spec.tensor_layout().get_memory_config(), cq_id) : host;
}

template <typename T>
Tensor Tensor::from_borrowed_data(ttsl::Span<T> buffer, const Shape& shape, MemoryPin) {
    return from_span<T>(buffer, TensorSpec(shape, TensorLayout(dtype_of<T>(), PageConfig(Layout::ROW_MAJOR), MemoryConfig{})));
}

template <typename T>
std::vector<T> Tensor::to_vector(std::optional<QueueId>) const {
    matches<T>(dtype());
    const auto values = Access::on_host(*this) ? Access::host_values(*this) : read_back(*this);
    std::vector<T> out;
    out.reserve(values.size());
    for (float value : values) {
        out.push_back(T(value));
    }
    return out;
}

Tensor Tensor::to_device(
    distributed::MeshDevice* device, const std::optional<MemoryConfig>& memory, std::optional<QueueId> cq_id) const {
    const TensorSpec spec(
        logical_shape(), TensorLayout(dtype(), PageConfig(layout()), memory.value_or(MemoryConfig{})));
    auto tensor = create_device_tensor(spec, device);
    copy_to_device(*this, tensor, cq_id);
    return tensor;
}

Tensor create_device_tensor(const TensorSpec& spec, distributed::MeshDevice* device) {
    DEMAND(spec.logical_shape().rank() >= 2 && spec.logical_shape().volume() > 0, "a tensor without elements");
    const bool block = spec.data_type() == DataType::BFLOAT8_B || spec.data_type() == DataType::BFLOAT4_B;
    DEMAND(!block || spec.layout() == Layout::TILE, "Block float types require TILE layout");
    return Access::allocate(device, spec);
}

template Tensor Tensor::from_span<bfloat16>(
    ttsl::Span<const bfloat16>, const TensorSpec&, distributed::MeshDevice*, std::optional<QueueId>, bfloat16);
template Tensor Tensor::from_span<float>(
    ttsl::Span<const float>, const TensorSpec&, distributed::MeshDevice*, std::optional<QueueId>, float);
template Tensor Tensor::from_span<uint32_t>(
    ttsl::Span<const uint32_t>, const TensorSpec&, distributed::MeshDevice*, std::optional<QueueId>, uint32_t);
template Tensor Tensor::from_borrowed_data<bfloat16>(ttsl::Span<bfloat16>, const Shape&, MemoryPin);
template Tensor Tensor::from_borrowed_data<float>(ttsl::Span<float>, const Shape&, MemoryPin);
template std::vector<bfloat16> Tensor::to_vector<bfloat16>(std::optional<QueueId>) const;
template std::vector<float> Tensor::to_vector<float>(std::optional<QueueId>) const;
template std::vector<uint32_t> Tensor::to_vector<uint32_t>(std::optional<QueueId>) const;

}  // namespace tt::tt_metal
