"""Table 2 of Quan et al. (2005): the codes of the 31 Elixhauser groups.

Each row is ``name: (enhanced ICD-9-CM, ICD-10)``, as the paper prints them: a code stands for
itself and everything below it, ``425.4-425.9`` for a run of codes. Facts from: Quan H et al.
Coding algorithms for defining comorbidities in ICD-9-CM and ICD-10 administrative data.
Med Care 2005;43(11):1130-9, doi:10.1097/01.mlr.0000182534.19832.83.
"""

TABLE_2 = {
    "congestive_heart_failure": (
        "398.91 402.01 402.11 402.91 404.01 404.03 404.11 404.13 404.91 404.93 425.4-425.9 428",
        "I09.9 I11.0 I13.0 I13.2 I25.5 I42.0 I42.5-I42.9 I43 I50 P29.0",
    ),
    "cardiac_arrhythmias": (
        "426.0 426.13 426.7 426.9 426.10 426.12 427.0-427.4 427.6-427.9 785.0 996.01 996.04 "
        "V45.0 V53.3",
        "I44.1-I44.3 I45.6 I45.9 I47-I49 R00.0 R00.1 R00.8 T82.1 Z45.0 Z95.0",
    ),
    "valvular_disease": (
        "093.2 394-397 424 746.3-746.6 V42.2 V43.3",
        "A52.0 I05-I08 I09.1 I09.8 I34-I39 Q23.0-Q23.3 Z95.2-Z95.4",
    ),
    "pulmonary_circulation_disorders": (
        "415.0 415.1 416 417.0 417.8 417.9",
        "I26 I27 I28.0 I28.8 I28.9",
    ),
    "peripheral_vascular_disorders": (
        "093.0 437.3 440 441 443.1-443.9 447.1 557.1 557.9 V43.4",
        "I70 I71 I73.1 I73.8 I73.9 I77.1 I79.0 I79.2 K55.1 K55.8 K55.9 Z95.8 Z95.9",
    ),
    "hypertension_uncomplicated": ("401", "I10"),
    "hypertension_complicated": ("402-405", "I11-I13 I15"),
    "paralysis": (
        "334.1 342 343 344.0-344.6 344.9",
        "G04.1 G11.4 G80.1 G80.2 G81 G82 G83.0-G83.4 G83.9",
    ),
    "other_neurological_disorders": (
        "331.9 332.0 332.1 333.4 333.5 333.92 334 335 336.2 340 341 345 348.1 348.3 780.3 784.3",
        "G10-G13 G20-G22 G25.4 G25.5 G31.2 G31.8 G31.9 G32 G35-G37 G40 G41 G93.1 G93.4 R47.0 R56",
    ),
    "chronic_pulmonary_disease": (
        "416.8 416.9 490-505 506.4 508.1 508.8",
        "I27.8 I27.9 J40-J47 J60-J67 J68.4 J70.1 J70.3",
    ),
    "diabetes_uncomplicated": (
        "250.0-250.3",
        "E10.0 E10.1 E10.9 E11.0 E11.1 E11.9 E12.0 E12.1 E12.9 E13.0 E13.1 E13.9 E14.0 E14.1 E14.9",
    ),
    "diabetes_complicated": (
        "250.4-250.9",
        "E10.2-E10.8 E11.2-E11.8 E12.2-E12.8 E13.2-E13.8 E14.2-E14.8",
    ),
    "hypothyroidism": ("240.9 243 244 246.1 246.8", "E00-E03 E89.0"),
    "renal_failure": (
        "403.01 403.11 403.91 404.02 404.03 404.12 404.13 404.92 404.93 585 586 588.0 V42.0 V45.1 "
        "V56",
        "I12.0 I13.1 N18 N19 N25.0 Z49.0-Z49.2 Z94.0 Z99.2",
    ),
    "liver_disease": (
        "070.22 070.23 070.32 070.33 070.44 070.54 070.6 070.9 456.0-456.2 570 571 572.2-572.8 "
        "573.3 573.4 573.8 573.9 V42.7",
        "B18 I85 I86.4 I98.2 K70 K71.1 K71.3-K71.5 K71.7 K72-K74 K76.0 K76.2-K76.9 Z94.4",
    ),
    "peptic_ulcer_disease_excluding_bleeding": (
        "531.7 531.9 532.7 532.9 533.7 533.9 534.7 534.9",
        "K25.7 K25.9 K26.7 K26.9 K27.7 K27.9 K28.7 K28.9",
    ),
    "aids_hiv": ("042-044", "B20-B22 B24"),
    "lymphoma": ("200-202 203.0 238.6", "C81-C85 C88 C96 C90.0 C90.2"),
    "metastatic_cancer": ("196-199", "C77-C80"),
    "solid_tumor_without_metastasis": (
        "140-172 174-195",
        "C00-C26 C30-C34 C37-C41 C43 C45-C58 C60-C76 C97",
    ),
    "rheumatoid_arthritis_collagen_vascular_diseases": (
        "446 701.0 710.0-710.4 710.8 710.9 711.2 714 719.3 720 725 728.5 728.89 729.30",
        "L94.0 L94.1 L94.3 M05 M06 M08 M12.0 M12.3 M30 M31.0-M31.3 M32-M35 M45 M46.1 M46.8 M46.9",
    ),
    "coagulopathy": ("286 287.1 287.3-287.5", "D65-D68 D69.1 D69.3-D69.6"),
    "obesity": ("278.0", "E66"),
    "weight_loss": ("260-263 783.2 799.4", "E40-E46 R63.4 R64"),
    "fluid_and_electrolyte_disorders": ("253.6 276", "E22.2 E86 E87"),
    "blood_loss_anemia": ("280.0", "D50.0"),
    "deficiency_anemia": ("280.1-280.9 281", "D50.8 D50.9 D51-D53"),
    "alcohol_abuse": (
        "265.2 291.1-291.3 291.5-291.9 303.0 303.9 305.0 357.5 425.5 535.3 571.0-571.3 980 V11.3",
        "F10 E52 G62.1 I42.6 K29.2 K70.0 K70.3 K70.9 T51 Z50.2 Z71.4 Z72.1",
    ),
    "drug_abuse": ("292 304 305.2-305.9 V65.42", "F11-F16 F18 F19 Z71.5 Z72.2"),
    "psychoses": (
        "293.8 295 296.04 296.14 296.44 296.54 297 298",
        "F20 F22-F25 F28 F29 F30.2 F31.2 F31.5",
    ),
    "depression": (
        "296.2 296.3 296.5 300.4 309 311",
        "F20.4 F31.3-F31.5 F32 F33 F34.1 F41.2 F43.2",
    ),
}
