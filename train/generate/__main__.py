"""`python -m train.generate checkpoint=… image=…`: page(s) to text, written as it is read."""

import sys

from conf.command import run
from train.generate.arguments import literal
from train.generate.command import main
from train.generate.config import GenerateConfig, check

DESCRIPTION = """Reads pages with a trained model. image= is a picture, a PDF, a folder of them, a quoted pattern, or several:
[a.png,b.pdf]; pages=1-3,7 chooses pages of PDFs. One page is printed as it is decoded, several in order; out=FOLDER gets one
markdown file a document instead (pages joined by the release's "<--- Page Split --->"), and the same command goes on after a kill.
What cannot be read is named on stderr, the others are read, and the exit code is 1. Greedy, unless temperature= is above 0;
no_repeat=image, pdf or eval are the release's rules against loops (30 tokens not twice in 90, 20 in 50, 40 in 90), SIZE/WINDOW any
other. Without changing the text: speculate=lookup guesses from what was read, speculate=draft draft=CHECKPOINT with a smaller model.
cache=bf16 or int8 makes keys and values smaller. Under torchrun or srun each process reads its share of the pages; tensor=2
splits the model over two."""
EXAMPLES = (
    "python -m train.generate checkpoint=runs/smoke image=tests/data/page.png",
    "python -m train.generate checkpoint=runs/smoke image='scans/*.png' out=texts max_new_tokens=400",
    "python -m train.generate checkpoint=runs/imported image=book.pdf pages=1-3,7 mode=gundam no_repeat=pdf out=texts",
    "python -m train.generate checkpoint=runs/imported image=scans prompt='<|grounding|>Convert the document to markdown.'",
    "python -m train.generate checkpoint=runs/imported image=page.png speculate=lookup cache=int8",
    "torchrun --nproc-per-node=4 -m train.generate checkpoint=runs/imported image=scans out=texts tensor=2",
)

if __name__ == "__main__":
    sys.exit(run(main, "generate", GenerateConfig, literal(sys.argv[1:]), DESCRIPTION, EXAMPLES, check))
