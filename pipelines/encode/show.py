"""The report of ``clipmill encode`` for people."""

from __future__ import annotations

from rich.console import Console

from pipelines.encode.account import Account, Report

STAGES = {
    "decode_s": "read and decode",
    "wait_s": "waiting for it",
    "encode_s": "autoencoder",
    "text_s": "text encoder",
    "write_s": "write",
}


def print_report(report: Report, console: Console) -> None:
    """Tell what was done, what became of every clip, and what it weighs."""
    if report.dry_run:
        console.print(
            f"set {report.fingerprint}: {report.pending} of {report.shards} shards are to be "
            f"encoded; of {report.total} clips {sum(report.without_bucket.values())} fit no bucket"
            f"{_counts(report.without_bucket)}"
        )
        return
    if report.complete:
        console.print(f"set {report.fingerprint}: all {report.shards} shards were encoded already")
    else:
        _print_work(report, console)
    if report.account is not None:
        _print_account(report.account, console)
    console.print(f"fingerprint: {report.fingerprint}")
    for text in report.next:
        console.print(f"next: {text}")


def _print_work(report: Report, console: Console) -> None:
    rate = report.frames / report.elapsed_s if report.elapsed_s else 0.0
    console.print(
        f"{report.pending} of {report.shards} shards encoded in {report.elapsed_s:.1f} s on "
        f"{report.device} ({report.engine}, {report.workers} at once): {report.clips} clips, "
        f"{report.frames} frames, {rate:.1f} frames/s, {report.texts} texts"
    )
    told = ", ".join(f"{name} {getattr(report.times, key):.1f}" for key, name in STAGES.items())
    console.print(f"seconds of work: {told}")


def _print_account(account: Account, console: Console) -> None:
    without, failed = sum(account.without_bucket.values()), sum(account.failed.values())
    console.print(
        f"{account.encoded} clips encoded + {without} without a bucket"
        f"{_counts(account.without_bucket)} + {failed} failed{_counts(account.failed)} = "
        f"{account.total}" + ("" if account.balanced else " [red]does not balance[/]")
    )
    for one in account.failures:
        console.print(f"  {one.clip_id} in {one.shard}: {one.code}: {one.message}", markup=False)
    if failed > len(account.failures):
        console.print(f"  and {failed - len(account.failures)} more")
    if failed:
        console.print("  --retry-failed encodes their shards again")
    if account.windows and account.latent_bytes:
        per_s = account.latent_bytes_per_s or 0.0
        console.print(
            f"latents: {size_text(account.latent_bytes)} of {account.windows} windows, "
            f"{size_text(per_s)} a second of them; {account.latent_bytes / account.mp4_bytes:.2f} "
            f"of the clips' mp4 ({size_text(account.mp4_bytes)}), 1/"
            f"{account.pixel_bytes / account.latent_bytes:.1f} of the same pixels as uint8"
        )
    console.print(
        f"texts and headers: {size_text(account.text_bytes)}; tars: {size_text(account.tar_bytes)}"
    )


def _counts(counts: dict[str, int]) -> str:
    told = ", ".join(f"{name} {count}" for name, count in counts.items())
    return f" ({told})" if told else ""


def size_text(size_bytes: float) -> str:
    """Bytes for people, by thousands."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size_bytes < 1000:
            return f"{size_bytes:.3g} {unit}" if unit != "bytes" else f"{size_bytes:.0f} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.3g} TB"
