// Declarations shared by the emulation's sources.
#pragma once

#include "ttnn.hpp"

#include <cmath>
#include <limits>
#include <sstream>

namespace tt::tt_metal::emulation {

template <typename... Parts>
[[noreturn]] void fatal(const char* file, int line, const char* rule, const Parts&... parts) {
    std::ostringstream text;
    text << "TT_FATAL @ " << file << ":" << line << ": " << rule << "\ninfo:\n";
    (text << ... << parts);
    throw std::runtime_error(text.str());
}

/// Refuses what the device refuses, with an error in TTNN's form; tests/rules.cc breaks each rule.
#define DEMAND(condition, ...)              \
    do {                                    \
        if (!(condition)) {                 \
            FATAL(#condition, __VA_ARGS__); \
        }                                   \
    } while (false)
#define FATAL(rule, ...) ::tt::tt_metal::emulation::fatal(__FILE__, __LINE__, rule, __VA_ARGS__)

/// Refuses what TTNN supports and the emulation doesn't.
#define LIMIT(condition, ...) DEMAND(condition, __VA_ARGS__)

constexpr uint32_t TILE = 32;
constexpr float POISON = std::numeric_limits<float>::quiet_NaN();

constexpr uint32_t round_up(uint32_t value, uint32_t to) { return (value + to - 1) / to * to; }

struct Data {
    std::vector<float> values;
    DataType dtype = DataType::BFLOAT16;
    /// Range of device memory that holds (or held) it.
    uint64_t address = 0, bytes = 0;
    bool live = true;
    /// True if a trace's replay has overwritten the memory since.
    bool clobbered = false;
    /// By queue: the last of its commands that wrote it, and that read it.
    uint64_t written[2] = {}, read[2] = {};
};

struct Allocation {
    distributed::MeshDevice* device;
    std::shared_ptr<Data> data;
    ~Allocation();
};

/// Access to the internals of tensors.
struct Access {
    static Tensor host(const TensorSpec& spec, std::vector<float> logical);
    static Tensor on_device(const TensorSpec& spec, std::shared_ptr<Allocation> allocation);
    static Tensor allocate(distributed::MeshDevice* device, const TensorSpec& spec);
    /// A view of the same memory with another shape.
    static Tensor view(const Tensor& tensor, const TensorSpec& spec);
    static const std::vector<float>& host_values(const Tensor& tensor);
    /// The device data of an operand; refuses host tensors and freed memory.
    static std::shared_ptr<Data> data(const Tensor& tensor, const char* op);
    static bool on_host(const Tensor& tensor);
};

/// Padded dimensions of a tensor seen as a stack of matrices.
struct Tiles {
    std::size_t stack, rows, cols, padded_rows, padded_cols;
    explicit Tiles(const Tensor& tensor);
    std::size_t matrix() const { return padded_rows * padded_cols; }
};

/// Rounds to the dtype's precision; block floats along rows of 16.
void round_to(DataType dtype, std::vector<float>& values, std::size_t padded_cols);
std::vector<float> pad(const TensorSpec& spec, const std::vector<float>& logical, float value);
std::vector<float> unpad(const TensorSpec& spec, const std::vector<float>& padded);
uint64_t bytes_of(const TensorSpec& spec);

/// An operation: reads `inputs`, returns the values of `output`, padding included.
using Compute = std::function<std::vector<float>()>;
/// Runs an operation, or records it. It takes so many `programs` on the device: none for further outputs of one.
void dispatch(
    const char* op, const std::string& program, const std::vector<Tensor>& inputs, const Tensor& output,
    Compute compute, int programs = 1);

/// Checks that operands of `op` are tiles on one device, and returns it.
distributed::MeshDevice* tiled(const char* op, std::initializer_list<const Tensor*> operands);
Tensor output_of(
    const char* op, distributed::MeshDevice* device, const TensorSpec& spec,
    const std::optional<Tensor>& given = std::nullopt);
TensorSpec tile_spec(Shape shape, DataType dtype, const std::optional<MemoryConfig>& memory = std::nullopt);
/// The precision that an operation is asked for, or TTNN's default.
ttnn::WormholeComputeKernelConfig config(const std::optional<const ttnn::DeviceComputeKernelConfig>& compute);
std::string key(const std::vector<Tensor>& tensors);

}  // namespace tt::tt_metal::emulation
