"""`swarmtop import FILE` recognises which tool wrote a file; GPUs, pings and tables as those tools write them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from swarm_protocol.snapshot.swarm import Swarm
from swarm_protocol.swarm_files.swarm_file import parse_swarm
from swarmtop import cli
from swarmtop.imports.detect_format import decoded, kind_of
from swarmtop.imports.findings import ImportProblem

SAMPLES = Path(__file__).parent / "samples"
MIB = 1 << 20
CSV = "name, memory.total [MiB], memory.free [MiB]\nNVIDIA GeForce RTX 3090, 24576 MiB, 24000 MiB\n"
LOG = """==============NVSMI LOG==============
Attached GPUs                             : 1
GPU 00000000:01:00.0
    Product Name                          : NVIDIA GeForce RTX 3090
    FB Memory Usage
        Total                             : 24576 MiB
        Reserved                          : 300 MiB
        Used                              : 276 MiB
        Free                              : 24000 MiB
    BAR1 Memory Usage
        Total                             : 256 MiB
"""
TABLE = """| NVIDIA-SMI 552.22      Driver Version: 552.22     CUDA Version: 12.4     |
|   0  NVIDIA GeForce RTX 3090      WDDM  |   00000000:01:00.0  On |                  N/A |
| 30%   40C    P8             20W /  350W |     576MiB /  24576MiB |      0%      Default |
"""
XML = """<?xml version="1.0" ?>
<!DOCTYPE nvidia_smi_log SYSTEM "nvsmi_device_v12.dtd">
<nvidia_smi_log><gpu id="0"><product_name>NVIDIA GeForce RTX 3090</product_name>
<fb_memory_usage><total>24576 MiB</total><used>576 MiB</used><free>24000 MiB</free></fb_memory_usage></gpu>
</nvidia_smi_log>
"""
DCGM = """# TYPE DCGM_FI_DEV_FB_FREE gauge
DCGM_FI_DEV_FB_FREE{gpu="0",UUID="GPU-0",device="nvidia0",modelName="NVIDIA GeForce RTX 3090",Hostname="m"} 24000
DCGM_FI_DEV_FB_USED{gpu="0",UUID="GPU-0",device="nvidia0",modelName="NVIDIA GeForce RTX 3090",Hostname="m"} 576
DCGM_FI_DEV_GPU_TEMP{gpu="0",UUID="GPU-0",device="nvidia0",modelName="NVIDIA GeForce RTX 3090",Hostname="m"} 40
"""
EXPORTER = """nvidia_smi_memory_total_bytes{uuid="b1"} 2.5769803776e+10
nvidia_smi_memory_used_bytes{uuid="b1"} 6.03979776e+08
nvidia_smi_gpu_info{uuid="b1",name="NVIDIA GeForce RTX 3090",driver_version="580"} 1
"""
FORMS = {
    "csv": CSV,
    "csv with used alone": "name;memory.total [MiB];memory.used [MiB]\nNVIDIA GeForce RTX 3090;24576 MiB;576 MiB\n",
    "csv in GiB, with commas": "name;memory.total [GiB];memory.free [GiB]\nNVIDIA GeForce RTX 3090;24,0;23,4375\n",
    "csv without units": "name, memory.total [MiB], memory.free [MiB]\nNVIDIA GeForce RTX 3090, 24576, 24000\n",
    "-q": LOG,
    "-q -x": XML,
    "plain, Windows": TABLE,
    "gpustat": json.dumps(
        {"hostname": "m", "gpus": [{"name": "NVIDIA GeForce RTX 3090", "memory.used": 576, "memory.total": 24576}]}
    ),
    "rocm-smi": json.dumps({"card0": {
        "Card Series": "NVIDIA GeForce RTX 3090", "VRAM Total Memory (B)": str(24576 * MIB),
        "VRAM Total Used Memory (B)": str(576 * MIB)}}),
    "amd-smi": json.dumps({"gpu_data": [{
        "gpu": 0, "asic": {"market_name": "NVIDIA GeForce RTX 3090"},
        "mem_usage": {"total_vram": {"value": 24576, "unit": "MB"}, "free_vram": {"value": 24000, "unit": "MB"}}}]}),
    "dcgm": DCGM,
    "nvidia_gpu_exporter": EXPORTER,
}  # fmt: skip


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = cli.main(["import", *words])
    out, err = capsys.readouterr()
    return code, out, err


def imported(capsys: pytest.CaptureFixture[str], path: Path, text: str | bytes, *words: str) -> tuple[Swarm, str]:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    code, out, err = run(capsys, str(path), *words)
    assert code == 0, err
    return parse_swarm(out), err


# ---------------------------------------------------------------- cards


@pytest.mark.parametrize("form", FORMS)
def test_every_monitor_gives_the_same_machine(capsys: pytest.CaptureFixture[str], tmp_path: Path, form: str) -> None:
    swarm, _ = imported(capsys, tmp_path / "f", FORMS[form], "--node", "m")
    assert swarm.names == ("m",)
    assert swarm.nodes["vram_bytes"][0] == pytest.approx(24000 * MIB, rel=1e-3)
    assert (swarm.nodes["mem_gbps"][0], swarm.facts[0].device_class) == (936, "gaming-gpu")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-8-sig"])
def test_what_powershell_writes_is_read(capsys: pytest.CaptureFixture[str], tmp_path: Path, encoding: str) -> None:
    swarm, _ = imported(capsys, tmp_path / "f", CSV.encode(encoding), "--node", "m")
    assert swarm.nodes["mem_gbps"][0] == 936


def test_two_unlike_cards_are_weighed_by_what_each_has_free(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = CSV + "NVIDIA RTX A4000, 16376 MiB, 8000 MiB\n"
    swarm, err = imported(capsys, tmp_path / "f", text, "--node", "m")
    assert swarm.nodes["mem_gbps"][0] == pytest.approx(32000 / (24000 / 936 + 8000 / 448), rel=1e-3)
    assert "card after card" in err


def test_a_card_without_memory_of_its_own_takes_the_machines_and_says_so(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    text = "name, memory.total [MiB], memory.free [MiB]\nNVIDIA GB10, [N/A], [N/A]\n"
    swarm, err = imported(capsys, tmp_path / "f", text, "--node", "m")
    assert swarm.nodes["vram_bytes"][0] == 112 << 30
    assert "uses the machine's memory (unified): 112 of 128 GiB" in err


def test_a_board_of_many_sizes_asks_for_its_memory(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = "name, memory.total [MiB], memory.free [MiB]\nOrin (nvgpu), [N/A], [N/A]\n"
    swarm, err = imported(capsys, tmp_path / "f", text, "--node", "m")
    assert np.isnan(swarm.nodes["vram_bytes"][0])
    assert "add vram_gib" in err


def test_what_the_driver_says_of_its_bandwidth_wins(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    card = {"gpu": 0, "asic": {"market_name": "AMD Radeon RX 7900 XTX"}, "vram": {
        "size": {"value": 24560, "unit": "MB"}, "max_bandwidth": {"value": 955, "unit": "GB/s"}}}  # fmt: skip
    swarm, _ = imported(capsys, tmp_path / "f", json.dumps([card]), "--node", "m")
    assert (swarm.nodes["mem_gbps"][0], swarm.nodes["tflops"][0]) == (955, 123)


def test_a_divided_card_is_its_instances(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    lines = "".join(
        f'DCGM_FI_DEV_FB_{what}{{gpu="0",UUID="GPU-0",GPU_I_PROFILE="3g.40gb",GPU_I_ID="{i}",'
        f'modelName="NVIDIA H100 80GB HBM3",Hostname="m"}} {mib}\n'
        for i in (1, 2) for what, mib in (("FREE", 40000), ("USED", 100))
    )  # fmt: skip
    swarm, _ = imported(capsys, tmp_path / "f", lines)
    assert swarm.nodes["mem_gbps"][0] == pytest.approx(3350 / 2)
    assert swarm.nodes["vram_bytes"][0] == pytest.approx(80000 * MIB, rel=1e-3)


def test_an_unknown_card_names_the_nearest(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = CSV.replace("RTX 3090", "RTX 3090 Laptop GPU")
    swarm, err = imported(capsys, tmp_path / "f", text, "--node", "m")
    assert np.isnan(swarm.nodes["mem_gbps"][0])
    assert "no bandwidth is known of NVIDIA GeForce RTX 3090 Laptop GPU (the nearest names are GeForce RTX 3090" in err


# ---------------------------------------------------------------- paths

LINUX = "PING lab (10.0.0.2) 56(84) bytes of data.\n" + "".join(
    f"64 bytes from 10.0.0.2: icmp_seq={i} ttl=64 time={ms} ms\n"
    for i, ms in enumerate((12.0, 12.4, 12.2, 20.0, 12.1), 1)
)
WINDOWS = """
Ping wird ausgeführt für 10.0.0.2 mit 32 Bytes Daten:
Antwort von 10.0.0.2: Bytes=32 Zeit=12ms TTL=57
Ping-Statistik für 10.0.0.2:
    Pakete: Gesendet = 4, Empfangen = 3, Verloren = 1
    (25% Verlust),
Ca. Zeitangaben in Millisek.:
    Minimum = 11ms, Maximum = 14ms, Mittelwert = 12ms
"""
MAC = """PING 10.0.0.2 (10.0.0.2): 56 data bytes
--- 10.0.0.2 ping statistics ---
10 packets transmitted, 9 packets received, 10.0% packet loss
round-trip min/avg/max/stddev = 11.8/12.3/14.0/0.6 ms
"""
REPORT = """Start: 2026-11-28T12:00:00+0000
HOST: attic                       Loss%   Snt   Last   Avg  Best  Wrst StDev
  1.|-- 10.0.0.254                 0.0%    10    0.4   0.5   0.3   0.9   0.1
  2.|-- 10.0.0.2                  10.0%    10   12.0  12.3  11.8  14.0   0.6
"""
BUSYBOX = MAC.replace("min/avg/max/stddev", "min/avg/max").replace("14.0/0.6", "14.0")
# a router's answer counts as received on Windows
UNREACHABLE = """
Pinging 10.0.0.2 with 32 bytes of data:
Reply from 10.0.0.2: bytes=32 time=12ms TTL=57
Reply from 10.0.0.1: Destination host unreachable.
Ping statistics for 10.0.0.2:
    Packets: Sent = 4, Received = 4, Lost = 0 (0% loss),
Approximate round trip times in milli-seconds:
    Minimum = 11ms, Maximum = 14ms, Average = 12ms
"""
NUMBERED = REPORT.replace("1.|-- ", "1. AS???    ").replace("2.|-- ", "2. AS680    ")
MTR_CSV = """Mtr_Version,Start_Time,Status,Host,Hop,Ip,Loss%,Snt, ,Last,Avg,Best,Wrst,StDev,
MTR.0.95,1764500000,OK,lab.example.org,1,10.0.0.254,0.00,10,0,0.50,0.52,0.41,0.70,0.10
MTR.0.95,1764500000,OK,lab.example.org,2,10.0.0.2,10.00,10,0,12.10,12.30,11.80,14.00,0.60
"""


@pytest.mark.parametrize(
    ("text", "rtt_ms", "jitter_ms", "loss"),
    [
        (LINUX, 12.2, 8.0, np.nan),
        (WINDOWS, 12, 3, 0.25),
        (WINDOWS.encode("cp1252"), 12, 3, 0.25),
        (MAC, 12.3, 0.5 + 1.645 * 0.6, 0.1),
        (BUSYBOX, 12.3, 2.2, 0.1),
        (UNREACHABLE, 12, 3, 0.25),
        (REPORT, 12.3, 0.5 + 1.645 * 0.6, 0.1),
        (NUMBERED, 12.3, 0.5 + 1.645 * 0.6, 0.1),
        (MTR_CSV, 12.3, 0.5 + 1.645 * 0.6, 0.1),
    ],
    ids=[
        "Linux",
        "Windows, German",
        "Windows code page",
        "macOS",
        "BusyBox",
        "a router's answers",
        "mtr --report",
        "mtr -z",
        "mtr --csv",
    ],
)
def test_pings_of_every_system(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str | bytes, rtt_ms: float, jitter_ms: float, loss: float
) -> None:
    swarm, _ = imported(capsys, tmp_path / "f", text, "--from", "attic", "--to", "lab")
    assert swarm.names == ("attic", "lab")
    for way in ((0, 1), (1, 0)):
        assert swarm.links["rtt_p50_ms"][way] == pytest.approx(rtt_ms)
        assert swarm.links["jitter_ms"][way] == pytest.approx(jitter_ms, rel=1e-3)
        assert swarm.links["loss"][way] == pytest.approx(0.0 if np.isnan(loss) else loss)


def test_a_host_that_never_answered_has_no_round_trip(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    silent = tmp_path / "ping.txt"
    silent.write_text("PING 10.0.0.9 (10.0.0.9)\n3 packets transmitted, 0 received, 100% packet loss\n")
    code, out, err = run(capsys, str(silent))
    assert (code, out) == (2, "")
    assert "nothing came back in this ping" in err
    lost = {"report": {"mtr": {"src": "a", "dst": "10.0.0.9"}, "hubs": [{"host": "???", "Loss%": 100.0, "Avg": 0.0}]}}
    silent.write_text(json.dumps(lost))
    assert "mtr did not reach 10.0.0.9" in run(capsys, str(silent))[2]


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("CREATE TABLE IF NOT EXISTS test (\n  build_commit TEXT,\n);\n", "run it with -o json"),
        ("10.0.0.2 : xmt/rcv/%loss = 2/2/0%, min/avg/max = 11.9/12.0/12.1\n", "ping -c 20 HOST > FILE"),
        ("attic  Mon Dec  1  550.54\n[0] RTX 3090 | 45°C,   0 % |   312 / 24576 MB | gdm(4M)\n", "gpustat --json"),
        ("= ROCm System Management Interface =\nGPU  Temp\n0  36.0c\n", "rocm-smi --showproductname"),
        ("GPU: 0\n    ASIC:\n        MARKET_NAME: AMD Radeon RX 7900 XTX\n", "amd-smi static"),
        ("| GPU ID | Device Information     |\n| 0      | Name: Tesla T4         |\n", "nvidia-smi --query-gpu"),
        ("NVIDIA GeForce RTX 3090, 24576 MiB\nNVIDIA GeForce RTX 3090, 24576 MiB\n", "without its header"),
        ("this,is\na,sentence\n", "no known tool wrote this, and as a matrix of round trips: line 2"),
    ],
)
def test_text_for_people_is_refused_with_the_command_that_helps(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, advice: str
) -> None:
    """Each was taken for a matrix of round trips: `line 2 has 16 cells, the first line 7; a square has as many`."""
    (tmp_path / "f").write_text(text)
    code, out, err = run(capsys, str(tmp_path / "f"))
    assert (code, out) == (2, "")
    assert advice in err


def test_a_note_says_whether_the_memory_is_what_was_free(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    free = "; vram_gib is the memory that was free then"
    whole = "; vram_gib is all of the memory: what other programs use is not stated"
    for text, said in ((CSV, free), ("name, memory.total [MiB]\nNVIDIA GeForce RTX 3090, 24576 MiB\n", whole)):
        (tmp_path / "f").write_text(text)
        assert run(capsys, str(tmp_path / "f"), "--node", "a")[2].startswith(f"1 machine{said}\n")


def test_iperf3_in_both_directions_fills_both(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    end = {
        "sum_received": {"bits_per_second": 79e6, "seconds": 10},
        "sum_received_bidir_reverse": {"bits_per_second": 392e6},
    }
    file = {"start": {"test_start": {"protocol": "TCP", "bidir": 1}}, "end": end}
    swarm, _ = imported(capsys, tmp_path / "f", json.dumps(file), "--from", "a", "--to", "b")
    assert (swarm.links["mbps"][0, 1], swarm.links["mbps"][1, 0]) == (79, 392)


def test_iperf3s_own_error_is_reported(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "f.json"
    for text in (
        '{"start": {"connected": []}, "intervals": [], "end": {}, "error": "unable to connect: refused"}',
        '{"event":"start","data":{"connected":[]}}\n{"event":"error","data":"unable to connect: refused"}\n',
    ):
        file.write_text(text)
        code, _, err = run(capsys, str(file))
        assert code == 2
        assert "unable to connect: refused" in err


@pytest.mark.parametrize(
    "text",
    [
        ";a;b\na;0;12,5\nb;12,7;0\n", "\ta\tb\na\t-\t12.5\nb\t12.7\t-\n", ",a,b\na,0 ms,12.5 ms\nb,12.7 ms,0 ms\n",
        ";a;b;\na;;12,5 ms;\nb;12,7 ms;;\n", "| | a | b |\n|---|---|---|\n| a | - | 12.5 |\n| b | 12.7 | - |\n",
        ',a,b\na,,"12,5"\nb,"12,7",\n', "x a b\na - 12.5\nb 12.7 -\n", ",a,b\na,,0.0125 s\nb,12700 µs,\n",
        "src;dst;rtt_ms\na;b;12,5\nb;a;12,7\n",
    ],
)  # fmt: skip
def test_tables_as_spreadsheets_write_them(capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str) -> None:
    swarm, _ = imported(capsys, tmp_path / "f", text)
    assert (swarm.links["rtt_p50_ms"][0, 1], swarm.links["rtt_p50_ms"][1, 0]) == pytest.approx((12.5, 12.7))


def test_rates_and_shares_of_a_list_have_their_units(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    swarm, _ = imported(capsys, tmp_path / "f", "src,dst,rtt_ms,loss,mbps\na,b,12.5 ms,1 %,2.5 Gbit/s\n")
    assert (swarm.links["loss"][0, 1], swarm.links["mbps"][0, 1]) == (pytest.approx(0.01), 2500)


@pytest.mark.parametrize("cell", ["12.5 parsec", "1,234.5", "12 MB/s", "-3"])
def test_a_cell_that_is_no_time_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path, cell: str) -> None:
    file = tmp_path / "f.csv"
    file.write_text(f";a;b\na;;{cell}\nb;12,7;\n")
    code, out, err = run(capsys, str(file))
    assert (code, out, len(err.splitlines())) == (2, "", 1)


# ---------------------------------------------------------------- kinds


@pytest.mark.parametrize(
    ("sample", "kind"),
    [
        ("all-smi.prom", "gpus"), ("iperf-3.12-reverse.json", "iperf3"), ("iperf-3.12-udp.json", "iperf3"),
        ("irtt-0.9.json", "irtt"), ("nvidia-smi.csv", "gpus"), ("pairs.csv", "matrix"),
        ("perfsonar-latency.json", "perfsonar"), ("perfsonar-rtt.json", "perfsonar"),
        ("perfsonar-throughput.json", "perfsonar"), ("petals-state.json", "petals"), ("square.csv", "matrix"),
    ],
)  # fmt: skip
def test_every_sample_is_recognised(sample: str, kind: str) -> None:
    assert kind_of(decoded((SAMPLES / sample).read_bytes())) == kind


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"", "this file is empty"),
        (b"hello", "cannot tell which tool wrote this; name the format"),
        (b'{"a": 1}', "this JSON has a, which no known tool writes"),
        (b'[[node]]\nname = "a"\n', "this is a swarm file already"),
        (b"\x89PNG\r\n\x1a\n" + bytes(range(1, 32)) * 20, "this is not text"),
        (b"[ ID] Interval           Transfer     Bitrate\n", "run it with -J"),
    ],
)
def test_what_is_not_recognised_says_what_to_do(data: bytes, line: str) -> None:
    with pytest.raises(ImportProblem) as refused:
        kind_of(decoded(data))
    assert line in str(refused.value)


def test_tools_are_formats_by_their_own_names(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_text(DCGM)
    assert run(capsys, "dcgm", str(file))[0] == 0
    assert "give a FILE after petals" in run(capsys, "petals")[2]
