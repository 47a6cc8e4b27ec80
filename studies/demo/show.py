"""What the demo prints, in its order: training, the table of layers, the picture, the notebook."""

from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from torch import Tensor, nn

import ekfac_ref as ek
from studies.demo import figure, networks, table
from studies.demo.notebook import experiment
from studies.digits import digits
from studies.looks import progress

FISHERS: dict[str, ek.Exact | ek.Empirical] = {"exact": ek.Exact(), "empirical": ek.Empirical()}
PICTURED = ("CNN", "conv1", "exact")
CAPTION = (
    "conv1 of the CNN, exact Fisher, 300 digits: 6 outputs with 10 weights each (3 by 3 and a bias)"
)

HOW_TO_READ = (
    "[bold]error[/] is ||X - F|| / ||F|| for X = KFAC or EKFAC and the exact block F: 0 is exact, "
    "1 is as far off as the zero matrix, and EKFAC, the best matrix in KFAC's eigenbasis, is never "
    "further off than KFAC. [bold]tr X / tr F[/] is 1 for EKFAC, always; for KFAC it tells how far "
    "from the data its independence assumption is."
)
WHY_TWO_SIZES = (
    "At N = 1 EKFAC is exact, so any error is a mistake; a layer with one output hides it, because "
    "both orders coincide there. At N = 20 the corrected error is the approximation's own, and the "
    "rest is the mistake."
)
WRONG_LINE = (
    "The wrong line: [bold]UAkronUB = np.kron(UA, UB)[/] stacks columns, while "
    "scalings.reshape(-1) and the notebook's own Fisher stack rows; it must be "
    "[bold]np.kron(UB, UA)[/]."
)


def trained_layers(picture: Path) -> None:
    """Train both networks, measure every layer, draw the picture, print the table."""
    console = Console(highlight=False)
    console.print("\n[bold]Two networks on scikit-learn's digits[/]\n")
    images, labels = digits()
    models = networks.networks()
    with progress(console) as bars:
        for name, model in models.items():
            _train(bars, name, model, images, labels)
        batches = networks.curvature_batches(images, labels)
        blocks = _measure(bars, models, batches)
    rows = [table.row(*key, b) for key, b in blocks.items()]
    figure.draw(picture, CAPTION, blocks[PICTURED], rows)
    console.print()
    console.print(table.layer_table(rows))
    console.print(f"\n{HOW_TO_READ}")
    console.print(f"\nThe picture is in [bold]{picture}[/].", soft_wrap=True)


def notebook() -> None:
    """Run the notebook's experiment at N = 1 and N = 20, and name its mistake."""
    console = Console(highlight=False)
    console.print("\n[bold]The notebook: a 2-9-1 network with MSELoss, against its own Fisher[/]\n")
    console.print(table.notebook_table(experiment(1) + experiment(20)))
    console.print(f"\n{WHY_TWO_SIZES}\n\n{WRONG_LINE}\n")


def _train(bars: Progress, name: str, model: nn.Module, images: Tensor, labels: Tensor) -> None:
    task = bars.add_task(f"train {name}", total=networks.EPOCHS)

    def tick(loss: float) -> None:
        bars.update(task, advance=1, note=f"loss {loss:.3f}")

    accuracy = networks.train(model, images, labels, tick)
    bars.update(task, note=f"{accuracy:.1%} of the test images right")
    model.double().eval()  # float32 is enough to train; the curvature is computed in float64


def _measure(
    bars: Progress, models: dict[str, nn.Sequential], batches: networks.Batches
) -> dict[tuple[str, str, str], table.Blocks]:
    """F, K and E of every layer of the trained networks, by (network, layer, Fisher)."""
    measured = [
        (network, layer, fisher)
        for network, model in models.items()
        for layer in networks.layers(model)
        for fisher in FISHERS
    ]
    task = bars.add_task("F, KFAC, EKFAC", total=len(measured))
    blocks = {}
    for network, layer, fisher in measured:
        bars.update(task, note=f"{network} {layer}, {fisher}")
        problem = ek.Problem(
            models[network], batches, ek.Categorical(), FISHERS[fisher], layers=(layer,)
        )
        blocks[network, layer, fisher] = table.blocks(problem)
        bars.update(task, advance=1)
    bars.update(task, note="every layer, exact and empirical Fisher")
    return blocks
