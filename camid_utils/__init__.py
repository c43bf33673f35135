"""Shared code of the study: which camera took this photo?

photos on disk -> catalogue -> patch store -> plan -> fit -> model file -> predictions -> metrics, figures -> report

| module              | what is in it                                                                   |
|---------------------|---------------------------------------------------------------------------------|
| `simulate`          | procedural scenes, and both data sets' layouts, shot by                         |
| `cameras`           | simulated cameras, one small function a step of a real one                      |
| `datasets`          | catalogues of Dresden, FloreView and anyone's own folders                       |
| `corpora`           | catalogues of two more corpora of phones, Forchheim and VISION                  |
| `stand_ins`         | simulated stand-ins for these two                                               |
| `published`         | what was published, as data                                                     |
| `download`          | real photographs fetched and checked: `python -m camid_utils.download`          |
| `sources`           | what there is to fetch: FloreView's list, Dresden's mirror                      |
| `fetching`          | one file from a server to disk, whole or not at all                             |
| `checking`          | what of a data set is missing, extra, double or of another camera               |
| `rehearsal`         | small simulated photos in the real data sets' numbers, to rehearse a run        |
| `splits`            | train, val and test by five protocols                                           |
| `patches`           | the patch store: patches, crops or whole photos on disk as uint8                |
| `content`           | how much a patch can say about its camera: quality, entropy                     |
| `degradation`       | what befalls photos on their way: re-compression, resizing, noise               |
| `traces`            | what a camera leaves in a photo: noise residuals, JPEG tables                   |
| `planning`          | which patches train, validate and test; plans that compare like with like       |
| `models`            | the two networks and the model file                                             |
| `training`          | the training loop                                                               |
| `checkpoints`       | what a killed training goes on from                                             |
| `together`          | what several processes that share a training say to each other                  |
| `distributed`       | several GPUs or machines: `python -m camid_utils.distributed`                   |
| `forecast`          | what training will take on this machine, before it starts                       |
| `transfer`          | a trained network taken to other cameras; features of frozen layers             |
| `adaptation`        | a trained network fitted to other data without labels                           |
| `evaluation`        | predictions, votes, metrics with intervals                                      |
| `experiments`       | one experiment from plan to metrics, as the notebooks run them                  |
| `voting`            | photo accuracy by the number of patches that vote, and by which                 |
| `fingerprints`      | which single camera: photo-response non-uniformity and its peaks                |
| `cross_corpus`      | a trained network on the same camera models in another corpus                   |
| `identify`          | the camera of any photo: `python -m camid_utils.identify`                       |
| `calibration`       | how sure an answer may be, and when it is none of the known cameras             |
| `demo`              | the same in the browser: `python -m camid_utils.demo`, its page in `web/`       |
| `report`            | what the metrics files say                                                      |
| `readme`            | the README's tables, made from the metrics files                                |
| `evidence`          | the figures that the claims are judged by, fetched by name                      |
| `claims`            | the paper's claims, a rule each                                                 |
| `ledger`            | every claim beside our figures, with a verdict                                  |
| `showcase`          | which photos the figures show                                                   |
| `plots`             | the look of all figures; networks, learning curves, confusion matrices          |
| `plots_photos`      | figures of photographs and data sets                                            |
| `plots_evidence`    | figures of experiments set against each other, and of fingerprints              |
| `plots_ledger`      | the summary figure: the paper's bars, ours, and what each correction changes    |
| `study`             | runs the notebooks: `python -m camid_utils.study`                               |
| `regression`        | whether a rerun gives the committed results: `make regression`                  |
| `files`, `progress` | whole-or-nothing writing; progress bars                                         |
"""
