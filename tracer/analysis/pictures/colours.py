# SPDX-License-Identifier: Apache-2.0
"""The colours of containers: few, apart for every kind of colour vision, on light and on dark ground."""

from typing import Final

# Okabe and Ito's, without black and yellow; on dark ground the same hues, lighter.
LIGHT: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
DARK: Final = ("#3987CF", "#E0661A", "#12A67D", "#D58DB8", "#86CDF2", "#EBBB2E")
LIGHT_OTHER: Final = "#C9C9C9"
DARK_OTHER: Final = "#505050"

# So many containers have a colour of their own.
COLOURED: Final = len(LIGHT)
