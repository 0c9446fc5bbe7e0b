"""Which panel a lab is ordered in, by its name."""

import re

# what laboratories report together; the first panel whose pattern is in the name takes the lab
_PANELS = {
    "urine": r"urin|^ua\b|ketone|specific gravity",
    "blood gas": r"\bp?h\b|pa?co2|pa?o2|fio2|base excess|blood gas|o2 sat|\bpeep\b",
    "coagulation": r"\binr\b|\bptt?\b|thromboplastin|prothrombin|fibrinogen|d-?dimer",
    "cardiac": r"tropon|\bbnp\b|natriuretic|\bck(-?mb)?\b|\bcpk",
    "inflammation and sepsis": r"lactate|lactic|c-reactive|\bcrp\b|procalcitonin|\besr\b",
    "liver": r"bilirubin|albumin|total protein|alkaline|\balp\b|\bal[ts]\b|\bas[t]\b|"
    r"transaminase|aminotransferase|\bsg[op]t\b|ammonia|lipase|amylase",
    "blood count": r"\bwbc\b|leukocyte|\bhgb\b|h(a?)emoglobin|h(a?)ematocrit|\bhct\b|platelet|"
    r"\brbc\b|\bmc[hv]c?\b|\brdw\b|\bmpv\b|neutrophil|lymph|monocyte|eosinophil|basophil|"
    r"\bpolys\b|\blymphs\b|\bmonos\b|\beos\b|\bbasos\b|\bbands\b",
    "chemistry": r"sodium|potassium|chloride|bicarb|\bhco3|\bco2\b|\bbun\b|urea|creatinine|"
    r"glucose|calcium|magnesium|phosph|anion",
    "vital signs": r"heart ?rate|resp(iratory)? ?rate|temperature|blood pressure|mean ?bp|"
    r"\b[sd]bp\b|spo2",
}
_OTHER = "other"


def lab_panels(lab_columns):
    """Sort labs into the panels that hospitals order together, by their names.

    Parameters
    ----------
    lab_columns : sequence of str
        Names of labs.

    Returns
    -------
    dict of str to list of str
        The labs of each panel that has any, in the order of a report; "other" for names that are
        not known. Change it as your laboratory orders.

    See Also
    --------
    panel_importance : What it is for.

    Examples
    --------
    >>> from sklearn_medfuse.inspection import lab_panels
    >>> lab_panels(["sodium", "INR", "creatinine", "vitamin D"])
    {'coagulation': ['INR'], 'chemistry': ['sodium', 'creatinine'], 'other': ['vitamin D']}
    """
    panels: dict[str, list[str]] = {name: [] for name in (*_PANELS, _OTHER)}
    for lab in lab_columns:
        name = str(lab).lower().replace("_", " ")
        found = (panel for panel, pattern in _PANELS.items() if re.search(pattern, name))
        panels[next(found, _OTHER)].append(lab)
    return {name: labs for name, labs in panels.items() if labs}
