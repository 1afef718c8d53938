// The interface to TTNN for Rust: two handles and free functions over them.
//
// Handles hide TTNN's types, so that the generated code does not include its headers. Every
// function may throw; cxx turns that into an `Err` with TTNN's text.
#pragma once

#include <array>
#include <cstdint>
#include <memory>

#include "rust/cxx.h"

namespace pi0rt::ttnn {

struct OpenOptions;
struct Facts;
struct Compute;
struct Chunks;
struct Blocks;
enum class Dtype : uint8_t;
enum class Activation : uint8_t;

/// A tensor in device memory; the memory is freed with the last handle to it.
struct Tensor {
    struct Inner;
    explicit Tensor(Inner inner);
    ~Tensor();
    std::unique_ptr<Inner> inner;
};

/// An open device.
struct Device {
    struct Inner;
    explicit Device(std::unique_ptr<Inner> inner);
    ~Device();
    std::unique_ptr<Inner> inner;
};

using Handle = std::unique_ptr<Tensor>;
using Dims = std::array<uint32_t, 4>;

rust::String implementation();

// device.cc
std::unique_ptr<Device> open(const OpenOptions& options);
Facts facts(const Device& device);
void close(Device& device);
void synchronize(const Device& device);
void fence(const Device& device, uint8_t from, uint8_t to);
uint32_t begin_trace(Device& device);
void end_trace(Device& device, uint32_t trace);
void execute_trace(Device& device, uint32_t trace);
void release_trace(Device& device, uint32_t trace);

// transfer.cc
Handle upload(const Device& device, rust::Slice<const float> values, Dims dims, Dtype dtype);
Handle upload_rows(const Device& device, rust::Slice<const uint16_t> bf16, uint32_t rows, uint32_t cols);
/// Zeros in bf16, row-major: for write_rows.
Handle rows(const Device& device, Dims dims);
Handle ids(const Device& device, uint32_t count);
void write(Tensor& tensor, rust::Slice<const float> values, uint8_t queue);
/// Row-major bf16, read in place: it has to stay as it is until the queue is done with it.
void write_rows(Tensor& tensor, rust::Slice<const uint16_t> bf16, uint8_t queue);
void write_ids(Tensor& tensor, rust::Slice<const uint32_t> values, uint8_t queue);
void read(const Tensor& tensor, rust::Slice<float> out);
Dims dims(const Tensor& tensor);
Handle share(const Tensor& tensor);

// ops.cc
Handle tilize(const Tensor& x);
Handle transpose(const Tensor& x);
Handle typecast(const Tensor& x, Dtype dtype);
Handle reshape(const Tensor& x, Dims dims);
Handle slice(const Tensor& x, Dims begins, Dims ends);
Handle concat(const Tensor& a, const Tensor& b, int32_t dim);
Handle embedding(const Tensor& ids, const Tensor& table);
Handle add(const Tensor& a, const Tensor& b, Dtype dtype);
Handle subtract(const Tensor& a, const Tensor& b);
Handle multiply(const Tensor& a, const Tensor& b, Dtype dtype);
/// `activation(a)·b` in one program.
Handle multiply_activated(const Tensor& a, const Tensor& b, Activation activation, Dtype dtype);
/// `a + factor·b` in one program.
Handle add_scaled(const Tensor& a, const Tensor& b, float factor, Dtype dtype);
/// `a + b·c` in one program, `c` a row or a matrix.
Handle add_product(const Tensor& a, const Tensor& b, const Tensor& c);
Handle scale(const Tensor& a, float factor);
Handle activate(const Tensor& x, Activation activation);
/// `activation(x·weight + bias)`, taken through the cores in these blocks, or as TTNN chooses if they have no columns.
Handle linear(
    const Tensor& x, const Tensor& weight, const Tensor* bias, Activation activation, Dtype dtype,
    const Compute& compute, const Blocks& blocks);
Handle rms_norm(
    const Tensor& x, const Tensor& weight, const Tensor* shift, float epsilon, const Compute& compute);
Handle layer_norm(
    const Tensor& x, const Tensor& weight, const Tensor& bias, float epsilon, const Compute& compute);
Handle rotary(const Tensor& x, const Tensor& cos, const Tensor& sin, const Compute& compute);
void split_heads(
    const Tensor& fused, uint32_t queries, uint32_t keys, Handle& q, Handle& k, Handle& v);
Handle join_heads(const Tensor& x);
Handle attention(
    const Tensor& q, const Tensor& k, const Tensor& v, const Tensor* mask, float scale, const Chunks& chunks,
    const Compute& compute);
void fill_cache(Tensor& cache, const Tensor& rows);

}  // namespace pi0rt::ttnn
