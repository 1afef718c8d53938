// Level 0: an emulation of the part of TTNN 0.66 that the bridge calls, with the same names and
// signatures. It computes on the host, tile by tile as the device does (rounding to the dtype at every
// store, padding included), and refuses what the device refuses or computes wrongly.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <stdexcept>
#include <string>
#include <tuple>
#include <variant>
#include <vector>

// The device's 16-bit element, outside any namespace as in the SDK.
class bfloat16 {
public:
    bfloat16() = default;
    explicit bfloat16(float value);
    explicit operator float() const;

private:
    uint16_t bits_ = 0;
};

enum class MathFidelity : uint8_t { LoFi = 0, HiFi2 = 2, HiFi3 = 3, HiFi4 = 4, Invalid = 0xff };

namespace ttsl {
template <typename T>
using Span = std::span<T>;
}

namespace tt {

enum class ARCH { GRAYSKULL = 1, WORMHOLE_B0 = 2, BLACKHOLE = 3, QUASAR = 4, Invalid = 0xff };

namespace tt_metal {

enum class DataType {
    BFLOAT16 = 0, FLOAT32 = 1, UINT32 = 2, BFLOAT8_B = 3, BFLOAT4_B = 4, UINT8 = 5, UINT16 = 6, INT32 = 7,
    INVALID = 8
};
enum class Layout { ROW_MAJOR = 0, TILE = 1, INVALID = 2 };
enum class BufferType { DRAM = 0, L1 = 1 };

struct CoreCoord {
    std::size_t x = 0, y = 0;
};

class QueueId {
public:
    explicit QueueId(uint8_t id) : id_(id) {}
    explicit operator uint8_t() const { return id_; }

private:
    uint8_t id_;
};

class Shape {
public:
    Shape() = default;
    Shape(std::initializer_list<uint32_t> dims) : dims_(dims) {}
    explicit Shape(std::vector<uint32_t> dims) : dims_(std::move(dims)) {}
    std::size_t rank() const { return dims_.size(); }
    uint32_t operator[](int32_t index) const;
    uint32_t& operator[](int32_t index);
    std::span<const uint32_t> view() const { return dims_; }
    std::size_t volume() const;
    bool operator==(const Shape&) const = default;

private:
    std::vector<uint32_t> dims_;
};
std::string to_string(const Shape& shape);

class PageConfig {
public:
    explicit PageConfig(Layout layout) : layout_(layout) {}
    Layout get_layout() const { return layout_; }

private:
    Layout layout_;
};

class MemoryConfig {
public:
    MemoryConfig() = default;
    explicit MemoryConfig(BufferType type) : type_(type) {}
    BufferType buffer_type() const { return type_; }

private:
    BufferType type_ = BufferType::DRAM;
};

class TensorLayout {
public:
    TensorLayout(DataType dtype, const PageConfig& page, const MemoryConfig& memory)
        : dtype_(dtype), page_(page), memory_(memory) {}
    DataType get_data_type() const { return dtype_; }
    Layout get_layout() const { return page_.get_layout(); }
    const MemoryConfig& get_memory_config() const { return memory_; }

private:
    DataType dtype_;
    PageConfig page_;
    MemoryConfig memory_;
};

class TensorSpec {
public:
    TensorSpec(Shape shape, TensorLayout layout) : shape_(std::move(shape)), layout_(layout) {}
    const Shape& logical_shape() const { return shape_; }
    Shape padded_shape() const;
    DataType data_type() const { return layout_.get_data_type(); }
    Layout layout() const { return layout_.get_layout(); }
    const TensorLayout& tensor_layout() const { return layout_; }

private:
    Shape shape_;
    TensorLayout layout_;
};

class MemoryPin {
public:
    MemoryPin() = default;
    explicit MemoryPin(std::shared_ptr<void> resource) : resource_(std::move(resource)) {}

private:
    std::shared_ptr<void> resource_;
};

namespace distributed {
class MeshDevice;
}

namespace emulation {
/// Content of a device buffer, padded row-major. It outlives its allocation while a trace refers to it.
struct Data;
/// A range of device memory, freed with the last tensor that uses it.
struct Allocation;
struct Access;
/// Programs run on the device so far. TTNN has nothing like it: for tests.
uint64_t programs(const distributed::MeshDevice* device);
}  // namespace emulation

class Tensor {
public:
    Tensor() = default;

    template <typename T>
    static Tensor from_span(
        ttsl::Span<const T> buffer, const TensorSpec& spec, distributed::MeshDevice* device = nullptr,
        std::optional<QueueId> cq_id = std::nullopt, T pad_value = T(0));
    template <typename T>
    static Tensor from_borrowed_data(ttsl::Span<T> buffer, const Shape& shape, MemoryPin pin);
    template <typename T>
    std::vector<T> to_vector(std::optional<QueueId> cq_id = std::nullopt) const;
    Tensor to_device(
        distributed::MeshDevice* device, const std::optional<MemoryConfig>& memory = std::nullopt,
        std::optional<QueueId> cq_id = std::nullopt) const;
    void deallocate(bool force = false);

    DataType dtype() const { return spec().data_type(); }
    Layout layout() const { return spec().layout(); }
    const Shape& logical_shape() const { return spec().logical_shape(); }
    Shape padded_shape() const { return spec().padded_shape(); }
    const TensorSpec& tensor_spec() const { return spec(); }
    const MemoryConfig& memory_config() const { return spec().tensor_layout().get_memory_config(); }
    bool is_allocated() const;
    distributed::MeshDevice* device() const;

private:
    friend struct emulation::Access;
    struct Attributes;
    const TensorSpec& spec() const;
    std::shared_ptr<Attributes> attributes_;
};

Tensor create_device_tensor(const TensorSpec& spec, distributed::MeshDevice* device);
void copy_to_device(const Tensor& host, Tensor& device, std::optional<QueueId> cq_id = std::nullopt);

namespace distributed {

struct MeshTraceId {
    uint32_t value = 0;
    uint32_t operator*() const { return value; }
};

struct MeshEvent {
    MeshDevice* device = nullptr;
    uint8_t queue = 0;
    uint64_t at = 0;
};

class MeshCommandQueue {
public:
    MeshCommandQueue(MeshDevice* device, uint8_t id) : device_(device), id_(id) {}
    void finish();

private:
    MeshDevice* device_;
    uint8_t id_;
};

class MeshDevice {
public:
    static std::shared_ptr<MeshDevice> create_unit_mesh(
        int device_id, std::size_t l1_small_size = 0, std::size_t trace_region_size = 0,
        std::size_t num_command_queues = 1);
    ~MeshDevice();
    ARCH arch() const;
    CoreCoord compute_with_storage_grid_size() const;
    int num_dram_channels() const;
    uint32_t dram_size_per_channel() const;
    uint32_t l1_size_per_core() const;
    uint8_t num_hw_cqs() const;
    void enable_program_cache();
    MeshCommandQueue& mesh_command_queue(std::optional<uint8_t> cq_id = std::nullopt) const;
    bool close();

    struct State;
    State& state() const { return *state_; }

private:
    MeshDevice() = default;
    std::unique_ptr<State> state_;
};

}  // namespace distributed
}  // namespace tt_metal
}  // namespace tt

namespace ttnn {

using tt::tt_metal::DataType;
using tt::tt_metal::Layout;
using tt::tt_metal::MemoryConfig;
using tt::tt_metal::QueueId;
using tt::tt_metal::Shape;
using tt::tt_metal::Tensor;
using tt::tt_metal::TensorSpec;
using tt::tt_metal::distributed::MeshDevice;
struct CoreGrid {
    std::size_t x, y;
    CoreGrid(std::size_t x, std::size_t y) : x(x), y(y) {}
};
inline const MemoryConfig DRAM_MEMORY_CONFIG{tt::tt_metal::BufferType::DRAM};
inline const MemoryConfig L1_MEMORY_CONFIG{tt::tt_metal::BufferType::L1};
using MeshEvent = tt::tt_metal::distributed::MeshEvent;
using MeshTraceId = tt::tt_metal::distributed::MeshTraceId;

struct WormholeComputeKernelConfig {
    MathFidelity math_fidelity = MathFidelity::LoFi;
    bool math_approx_mode = true;
    bool fp32_dest_acc_en = false;
    bool packer_l1_acc = false;
    bool dst_full_sync_en = false;
};
struct GrayskullComputeKernelConfig {};
using DeviceComputeKernelConfig = std::variant<GrayskullComputeKernelConfig, WormholeComputeKernelConfig>;
DeviceComputeKernelConfig init_device_compute_kernel_config(
    tt::ARCH arch, const std::optional<const DeviceComputeKernelConfig>& device_kernel_config,
    MathFidelity default_fidelity = MathFidelity::LoFi, bool default_approx_mode = true,
    bool default_fp32_acc = false, bool default_l1_acc = false);

namespace operations {
namespace unary {
enum class UnaryOpType { GELU, SILU, MUL_UNARY_SFPU };
struct UnaryWithParam {
    UnaryWithParam(UnaryOpType type, float param = 0) : op_type(type), param(param) {}
    UnaryOpType op_type;
    float param;
};
using EltwiseUnaryWithParam = UnaryWithParam;
}  // namespace unary
namespace matmul {
struct MatmulMultiCoreProgramConfig {};
struct MatmulMultiCoreReuseMultiCastProgramConfig {
    tt::tt_metal::CoreCoord compute_with_storage_grid_size;
    std::size_t in0_block_w{}, out_subblock_h{}, out_subblock_w{}, out_block_h{}, out_block_w{}, per_core_M{}, per_core_N{};
    bool transpose_mcast{};
    std::optional<unary::UnaryWithParam> fused_activation;
    bool fuse_batch = true;
};
struct MatmulMultiCoreReuseMultiCast1DProgramConfig {
    tt::tt_metal::CoreCoord compute_with_storage_grid_size;
    std::size_t in0_block_w{}, out_subblock_h{}, out_subblock_w{}, out_block_h{}, out_block_w{}, per_core_M{}, per_core_N{};
    bool fuse_batch{};
    std::optional<unary::UnaryWithParam> fused_activation;
    bool mcast_in0{};
};
using MatmulProgramConfig = std::variant<
    MatmulMultiCoreProgramConfig, MatmulMultiCoreReuseMultiCastProgramConfig,
    MatmulMultiCoreReuseMultiCast1DProgramConfig>;
}  // namespace matmul
namespace transformer {
struct SDPAProgramConfig {
    tt::tt_metal::CoreCoord compute_with_storage_grid_size;
    std::optional<int> sub_core_grids;
    std::size_t q_chunk_size;
    std::size_t k_chunk_size;
    std::optional<bool> exp_approx_mode;
    uint32_t max_cores_per_head_batch = 16;
};
}  // namespace transformer
namespace trace {
MeshTraceId begin_trace_capture(MeshDevice* device, std::optional<QueueId> cq_id);
void end_trace_capture(MeshDevice* device, MeshTraceId trace_id, std::optional<QueueId> cq_id);
void execute_trace(MeshDevice* device, MeshTraceId trace_id, std::optional<QueueId> cq_id, bool blocking);
void release_trace(MeshDevice* device, MeshTraceId trace_id);
}  // namespace trace
}  // namespace operations

using operations::unary::UnaryOpType;
using operations::unary::UnaryWithParam;
using Activation = std::variant<std::string, UnaryWithParam>;

namespace prim {
enum class EmbeddingsType { GENERIC, PADDED, BINARY };
struct LayerNormProgramConfig {};
}  // namespace prim

namespace events {
MeshEvent record_mesh_event(MeshDevice* device, std::optional<QueueId> cq_id);
void wait_for_mesh_event(std::optional<QueueId> cq_id, const MeshEvent& event);
void event_synchronize(const MeshEvent& event);
}  // namespace events

using Memory = std::optional<MemoryConfig>;
using Compute = std::optional<const DeviceComputeKernelConfig>;
using Activations = ttsl::Span<const operations::unary::EltwiseUnaryWithParam>;

Tensor to_layout(const Tensor& x, Layout layout);
Tensor typecast(
    const Tensor& x, const DataType& dtype, const Memory& memory = std::nullopt,
    const std::optional<Tensor>& output = std::nullopt);
Tensor transpose(const Tensor& x, int64_t dim1, int64_t dim2);
Tensor reshape(const Tensor& x, const Shape& shape);
Tensor slice(
    const Tensor& x, const std::array<uint32_t, 4>& begins, const std::array<uint32_t, 4>& ends,
    const std::array<uint32_t, 4>& step, const Memory& memory = std::nullopt,
    const std::optional<Tensor>& output = std::nullopt);
Tensor concat(
    const std::vector<Tensor>& inputs, int dim, const Memory& memory = std::nullopt,
    const std::optional<Tensor>& output = std::nullopt, unsigned int groups = 1);
Tensor embedding(
    const Tensor& ids, const Tensor& table, const std::optional<int>& pad_token = std::nullopt,
    const std::optional<Layout>& layout = std::nullopt,
    prim::EmbeddingsType type = prim::EmbeddingsType::GENERIC,
    std::optional<const DataType> dtype = std::nullopt, const Memory& memory = std::nullopt,
    const std::optional<Tensor>& output = std::nullopt);

Tensor add(
    const Tensor& a, const Tensor& b, const std::optional<const DataType>& dtype = std::nullopt,
    const Memory& memory = std::nullopt, const std::optional<Tensor>& output = std::nullopt,
    Activations post = {}, Activations lhs = {}, Activations rhs = {});
Tensor add(
    const Tensor& a, float b, const std::optional<const DataType>& dtype = std::nullopt,
    const Memory& memory = std::nullopt, const std::optional<Tensor>& output = std::nullopt);
Tensor subtract(
    const Tensor& a, const Tensor& b, const std::optional<const DataType>& dtype = std::nullopt,
    const Memory& memory = std::nullopt, const std::optional<Tensor>& output = std::nullopt,
    Activations post = {}, Activations lhs = {}, Activations rhs = {});
Tensor multiply(
    const Tensor& a, const Tensor& b, const std::optional<const DataType>& dtype = std::nullopt,
    const Memory& memory = std::nullopt, const std::optional<Tensor>& output = std::nullopt,
    Activations post = {}, Activations lhs = {}, Activations rhs = {});
Tensor multiply(
    const Tensor& a, float b, const std::optional<const DataType>& dtype = std::nullopt,
    const Memory& memory = std::nullopt, const std::optional<Tensor>& output = std::nullopt);
Tensor addcmul(
    const Tensor& a, const Tensor& b, const Tensor& c, float value = 1, const Memory& memory = std::nullopt,
    const std::optional<Tensor>& output = std::nullopt);
Tensor gelu(
    const Tensor& x, bool fast_and_approximate = false, const Memory& memory = std::nullopt,
    const std::optional<Tensor>& output = std::nullopt);
Tensor silu(
    const Tensor& x, const Memory& memory = std::nullopt, const std::optional<Tensor>& output = std::nullopt);

Tensor linear(
    const Tensor& x, const Tensor& weight, const std::optional<const Tensor>& bias = std::nullopt,
    bool transpose_a = false, bool transpose_b = false,
    const std::optional<const MemoryConfig>& memory = std::nullopt,
    std::optional<const DataType> dtype = std::nullopt,
    const std::optional<const operations::matmul::MatmulProgramConfig>& program = std::nullopt,
    const std::optional<const Activation>& activation = std::nullopt, Compute compute = std::nullopt,
    std::optional<const CoreGrid> grid = std::nullopt);
Tensor rms_norm(
    const Tensor& x, float epsilon = 1e-12, const std::optional<const Tensor>& weight = std::nullopt,
    const std::optional<const Tensor>& bias = std::nullopt,
    const std::optional<const Tensor>& residual = std::nullopt, const Memory& memory = std::nullopt,
    const std::optional<const prim::LayerNormProgramConfig>& program = std::nullopt,
    Compute compute = std::nullopt);
Tensor layer_norm(
    const Tensor& x, float epsilon = 1e-12, const std::optional<const Tensor>& weight = std::nullopt,
    const std::optional<const Tensor>& bias = std::nullopt,
    const std::optional<const Tensor>& residual = std::nullopt, const Memory& memory = std::nullopt,
    const std::optional<const prim::LayerNormProgramConfig>& program = std::nullopt,
    Compute compute = std::nullopt);

Tensor fill_cache(const Tensor& cache, const Tensor& input, uint32_t batch_index);

namespace transformer {
Tensor scaled_dot_product_attention(
    const Tensor& q, const Tensor& k, const Tensor& v, const std::optional<Tensor>& mask = std::nullopt,
    bool is_causal = true, std::optional<float> scale = std::nullopt,
    std::optional<uint32_t> sliding_window_size = std::nullopt, const Memory& memory = std::nullopt,
    std::optional<operations::transformer::SDPAProgramConfig> program = std::nullopt,
    std::optional<DeviceComputeKernelConfig> compute = std::nullopt);
}

namespace experimental {
Tensor rotary_embedding(
    const Tensor& x, const Tensor& cos, const Tensor& sin, std::optional<uint32_t> token_index = std::nullopt,
    const Memory& memory = std::nullopt, Compute compute = std::nullopt);
std::tuple<Tensor, Tensor, Tensor> nlp_create_qkv_heads(
    const Tensor& q, const std::optional<Tensor>& kv, uint32_t num_q_heads,
    std::optional<uint32_t> num_kv_heads, bool transpose_k_heads, const Memory& memory);
Tensor nlp_concat_heads(const Tensor& x, const Memory& memory = std::nullopt);
}  // namespace experimental

}  // namespace ttnn
