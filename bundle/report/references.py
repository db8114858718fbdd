"""The works a report cites: numbered in the order they are named, and only those that are."""

import re

import pandas as pd

REPORT = "reference report"
# As texts name them, in parentheses -> the entry of the list.
# fmt: off
WORKS = {
    REPORT: "A student team: course report and notebook on CIFAR-10 with a residual network under "
    "five million parameters. What they say stands in this bundle's `docs/reference.md`.",
    "Krizhevsky, 2009": "A. Krizhevsky: *Learning Multiple Layers of Features from Tiny Images.* "
    "Technical report, University of Toronto, 2009. "
    "[CIFAR-10](https://www.cs.toronto.edu/~kriz/cifar.html)",
    "He et al., 2016": "K. He, X. Zhang, S. Ren, J. Sun: *Deep Residual Learning for Image "
    "Recognition.* CVPR 2016. [arXiv:1512.03385](https://arxiv.org/abs/1512.03385)",
    "He et al., Identity Mappings, 2016": "K. He, X. Zhang, S. Ren, J. Sun: *Identity Mappings in "
    "Deep Residual Networks.* ECCV 2016. [arXiv:1603.05027](https://arxiv.org/abs/1603.05027)",
    "Jordan, 2024": "K. Jordan: *94% on CIFAR-10 in 3.29 Seconds on a Single GPU.* 2024. "
    "[arXiv:2404.00498](https://arxiv.org/abs/2404.00498)",
    "Jordan et al., 2024": "K. Jordan, Y. Jin, V. Boza, J. You, F. Cesista, L. Newhouse, J. "
    "Bernstein: *Muon: An Optimizer for Hidden Layers in Neural Networks.* 2024. "
    "[kellerjordan.github.io](https://kellerjordan.github.io/posts/muon/)",
    "Loshchilov and Hutter, 2017": "I. Loshchilov, F. Hutter: *SGDR: Stochastic Gradient Descent "
    "with Warm Restarts.* ICLR 2017. [arXiv:1608.03983](https://arxiv.org/abs/1608.03983)",
    "Smith and Topin, 2019": "L. N. Smith, N. Topin: *Super-Convergence: Very Fast Training of "
    "Neural Networks Using Large Learning Rates.* 2019. "
    "[arXiv:1708.07120](https://arxiv.org/abs/1708.07120)",
    "Yun et al., 2019": "S. Yun, D. Han, S. J. Oh, S. Chun, J. Choe, Y. Yoo: *CutMix: "
    "Regularization Strategy to Train Strong Classifiers with Localizable Features.* ICCV 2019. "
    "[arXiv:1905.04899](https://arxiv.org/abs/1905.04899)",
    "Zhang et al., 2018": "H. Zhang, M. Cisse, Y. N. Dauphin, D. Lopez-Paz: *mixup: Beyond "
    "Empirical Risk Minimization.* ICLR 2018. [arXiv:1710.09412](https://arxiv.org/abs/1710.09412)",
    "Müller and Hutter, 2021": "S. G. Müller, F. Hutter: *TrivialAugment: Tuning-free Yet "
    "State-of-the-Art Data Augmentation.* ICCV 2021. "
    "[arXiv:2103.10158](https://arxiv.org/abs/2103.10158)",
    "Hendrycks et al., 2020": "D. Hendrycks, N. Mu, E. D. Cubuk, B. Zoph, J. Gilmer, "
    "B. Lakshminarayanan: *AugMix: A Simple Data Processing Method to Improve Robustness and "
    "Uncertainty.* ICLR 2020. [arXiv:1912.02781](https://arxiv.org/abs/1912.02781)",
    "Zhong et al., 2020": "Z. Zhong, L. Zheng, G. Kang, S. Li, Y. Yang: *Random Erasing Data "
    "Augmentation.* AAAI 2020. [arXiv:1708.04896](https://arxiv.org/abs/1708.04896)",
    "Szegedy et al., 2016": "C. Szegedy, V. Vanhoucke, S. Ioffe, J. Shlens, Z. Wojna: *Rethinking "
    "the Inception Architecture for Computer Vision.* CVPR 2016. "
    "[arXiv:1512.00567](https://arxiv.org/abs/1512.00567)",
    "Foret et al., 2021": "P. Foret, A. Kleiner, H. Mobahi, B. Neyshabur: *Sharpness-Aware "
    "Minimization for Efficiently Improving Generalization.* ICLR 2021. "
    "[arXiv:2010.01412](https://arxiv.org/abs/2010.01412)",
    "Hinton et al., 2015": "G. Hinton, O. Vinyals, J. Dean: *Distilling the Knowledge in a Neural "
    "Network.* 2015. [arXiv:1503.02531](https://arxiv.org/abs/1503.02531)",
    "Wilson, 1927": "E. B. Wilson: *Probable Inference, the Law of Succession, and Statistical "
    "Inference.* JASA 22, 1927. "
    "[doi:10.1080/01621459.1927.10502953](https://doi.org/10.1080/01621459.1927.10502953)",
    "McNemar, 1947": "Q. McNemar: *Note on the Sampling Error of the Difference between Correlated "
    "Proportions or Percentages.* Psychometrika 12, 1947. "
    "[doi:10.1007/BF02295996](https://doi.org/10.1007/BF02295996)",
    "Newcombe, 1998": "R. G. Newcombe: *Interval Estimation for the Difference between Independent "
    "Proportions.* Statistics in Medicine 17, 1998, 873–890.",
    "Guo et al., 2017": "C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger: *On Calibration of Modern "
    "Neural Networks.* ICML 2017. [arXiv:1706.04599](https://arxiv.org/abs/1706.04599)",
    "Hendrycks and Dietterich, 2019": "D. Hendrycks, T. Dietterich: *Benchmarking Neural Network "
    "Robustness to Common Corruptions and Perturbations.* ICLR 2019. "
    "[arXiv:1903.12261](https://arxiv.org/abs/1903.12261)",
}
# fmt: on
MENTION = re.compile(r"\(([^()]+)\)")


class Citations:
    """Puts numbers, as in "[3]", where texts name a work of WORKS in parentheses."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def __call__(self, text: str) -> str:
        """Return a text with its mentions numbered; a new work gets the next number."""
        return MENTION.sub(self._numbered, text)

    def _numbered(self, mention: re.Match) -> str:
        name = mention[1]
        if name not in WORKS:
            return mention[0]
        return f"[{self.numbers.setdefault(name, len(self.numbers) + 1)}]"

    def table(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return a table of text with its mentions numbered."""
        return frame.map(lambda cell: self(cell) if isinstance(cell, str) else cell)

    def listed(self) -> str:
        """Return the works named so far, in Markdown, as a numbered list under its heading."""
        lines = (f"{number}. {WORKS[name]}" for name, number in self.numbers.items())
        return "\n".join(("## References", "", *lines))
