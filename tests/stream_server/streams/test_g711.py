from __future__ import annotations

import numpy as np

from stream_server.streams.intake import ALAW, ALAW_PCM16, MULAW, MULAW_PCM16


def test_mulaw_says_what_the_recommendation_says():
    # Table 2a of G.711: values at the decoder output, 14 bits, shifted by 2.
    values = {0x80: 8031, 0x8F: 4191, 0x90: 3999, 0x9F: 2079, 0xDF: 99, 0xE0: 93, 0xEF: 33}
    values |= {0xF0: 30, 0xFE: 2, 0xFF: 0}
    for code, value in values.items():
        assert MULAW_PCM16[code] == value * 4
        assert MULAW_PCM16[code & 0x7F] == -value * 4


def test_alaw_says_what_the_recommendation_says():
    # Table 1a of G.711: values at the decoder output, 13 bits, shifted by 3; on the line the even
    # bits are inverted.
    values = {127: 4032, 112: 2112, 111: 2016, 96: 1056, 47: 126, 32: 66, 31: 63, 1: 3, 0: 1}
    for number, value in values.items():
        code = (0x80 | number) ^ 0x55
        assert ALAW_PCM16[code] == value * 8
        assert ALAW_PCM16[code & 0x7F if code & 0x80 else code | 0x80] == -value * 8


def test_every_code_has_its_own_value_but_for_the_two_zeros_of_mulaw():
    assert len(set(ALAW_PCM16.tolist())) == 256
    assert len(set(MULAW_PCM16.tolist())) == 255


def test_both_tables_are_odd_and_within_full_scale():
    for table in (MULAW, ALAW):
        assert table.dtype == np.float32
        assert table.shape == (256,)
        np.testing.assert_array_equal(np.sort(table), np.sort(-table))
        assert 0.97 < table.max() < 1
