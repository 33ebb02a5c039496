"""Estimates the size of a model's weights by their quantisation, before there is a file."""

from .geometry import Geometry

BODY_BITS = {
    "F32": 32.0,
    "F16": 16.0,
    "BF16": 16.0,
    "Q8_0": 8.5,
    "Q6_K": 6.56,
    "Q5_K_M": 5.7,
    "Q5_K_S": 5.52,
    "Q5_1": 6.0,
    "Q5_0": 5.5,
    "Q4_K_M": 4.83,
    "Q4_K_S": 4.57,
    "Q4_1": 5.0,
    "Q4_0": 4.5,
    "IQ4_NL": 4.5,
    "IQ4_XS": 4.28,
    "Q3_K_L": 4.22,
    "Q3_K_M": 3.86,
    "Q3_K_S": 3.44,
    "Q2_K": 3.0,
}
"""Bits per weight in the layers. Mixed quantisations keep some matrices in more bits: llama.cpp's own averages."""
OUTPUT_BITS = 6.56
"""Bits per weight of the output matrix, which is kept more exact than the layers."""
ROW_MULTIPLE = 256
"""K-quantisations need rows of a multiple of so many weights. llama.cpp quantises other matrices by the next larger of
the plain types."""
PLAIN_BITS = {"Q3": 4.5, "Q4": 5.6, "Q5": 6.1, "Q6": 8.5}
PLAIN_OUTPUT_BITS = 8.5


def estimate_weights(geometry: Geometry, parameters: int, quantisation: str) -> int | None:
    """Return the bytes of the weights of a GGUF file; None if the quantisation is not known."""
    name = quantisation.upper().removeprefix("UD-")
    bits = BODY_BITS.get("Q4_K_M" if name == "Q4" else name)
    if bits is None:
        return None
    output_bits = max(bits, OUTPUT_BITS)
    if geometry.hidden_size % ROW_MULTIPLE:
        output_bits = max(bits, PLAIN_OUTPUT_BITS)
        bits = PLAIN_BITS.get(name[:2], bits) if "_K" in name else bits
    output = min(geometry.vocabulary * geometry.hidden_size, parameters)
    return int((output * output_bits + (parameters - output) * bits) / 8)
