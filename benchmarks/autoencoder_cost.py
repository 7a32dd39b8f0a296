"""What do the two autoencoders of cloud_anomaly cost at full size?

    python benchmarks/autoencoder_cost.py [--batch 16] [--size 384] [--pictures 90] [--threads 2]

Takes one training step of each network on a batch of pictures, each in a process of its own: 512 filters in the first
layer of the convolutional one, all of VGG19. With `pictures_at_once: 1`, the default, the wide layers go through the
batch one picture at a time and compute their activations again for the gradient; --whole-batches adds rows that hold
them all, as the plain recipe does. Prints the largest memory of the process, seconds of processor and clock for the
step, and what an epoch of that many pictures takes by the clock.
"""

import argparse
import resource
import subprocess
import sys
import time

NETWORKS = ("conv_autoencoder", "vgg19_autoencoder")


def main() -> None:
    """Runs the comparison, or in a child process one row of it."""
    parser = argparse.ArgumentParser(description="Memory and time of the autoencoders at full size.")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", type=int, default=384)
    parser.add_argument("--pictures", type=int, default=90, help="pictures an epoch")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--whole-batches", action="store_true", help="also without pictures_at_once; needs much memory")
    parser.add_argument("--row", nargs=2, metavar=("NETWORK", "AT_ONCE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row:
        print(step(options.row[0], int(options.row[1]) or None, options))
        return
    print("network | pictures at once | peak memory, GiB | step, s processor | step, s | epoch, min")
    for network in NETWORKS:
        for at_once in (1, 0) if options.whole_batches else (1,):
            answer = subprocess.run(
                [sys.executable, __file__, *sys.argv[1:], "--row", network, str(at_once)],
                capture_output=True,
                text=True,
                check=False,
            )
            print(answer.stdout.strip() if answer.returncode == 0 else f"{network} | {at_once or 'all'} | failed")


def step(network: str, at_once: int | None, options: argparse.Namespace) -> str:
    """One row of the table: one training step, in bfloat16 where the processor has it, as trainings do."""
    import torch

    from cloud_assets.families.anomaly.recipe import AUTHORS_OPTIMISATION
    from cloud_assets.families.anomaly.train import ReconstructionModule
    from cloud_assets.inference.device import autocast
    from cloud_assets.learning.fit import build_optimiser
    from cloud_assets.networks.specifications import ConvAutoencoder, VGG19Autoencoder

    torch.set_num_threads(options.threads)
    specification = (
        ConvAutoencoder(width=512, pictures_at_once=at_once)
        if network == "conv_autoencoder"
        else VGG19Autoencoder(pictures_at_once=at_once)
    )
    built = specification.build(3, 3).to(memory_format=torch.channels_last).train()
    module = ReconstructionModule(built, AUTHORS_OPTIMISATION)
    optimiser = build_optimiser(built.parameters(), AUTHORS_OPTIMISATION)
    pictures = torch.rand(options.batch, 3, options.size, options.size)
    target = torch.zeros(options.batch, options.size, options.size, dtype=torch.uint8)
    clock, processor = time.perf_counter(), time.process_time()
    with autocast("auto", torch.device("cpu")):
        loss = module.loss(pictures, target)
    loss.backward()
    optimiser.step()
    clock, processor = time.perf_counter() - clock, time.process_time() - processor
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    epoch = clock * options.pictures / options.batch / 60
    return f"{network} | {at_once or 'all'} | {peak:.2f} | {processor:.1f} | {clock:.1f} | {epoch:.1f}"


if __name__ == "__main__":
    main()
