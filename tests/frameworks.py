"""Small trainings with real frameworks, as scripts: random models, drawn data, nothing fetched.

Each takes three arguments, in s: what a sample, a training forward, and the rest of a training
step cost. Each prints what it trained, in one line.
"""

TASK = """
import hashlib, json, sys, time
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from profkit.workloads.torchvision_repair import import_torchvision
import_torchvision()  # the frameworks import it, and beside a CPU build of torch it may not load
torch.set_num_threads(1)
torch.manual_seed(0)

SAMPLE_S, FORWARD_S, BODY_S = map(float, sys.argv[1:4])
EVALUATION_S = 0.03
BATCH, BATCHES, EVALUATION_BATCHES, EPOCHS = 4, 24, 3, 2

class Numbers(Dataset):
    def __init__(self, batches, sample_s=0.0):
        self.count, self.sample_s = batches * BATCH, sample_s
    def __len__(self):
        return self.count
    def __getitem__(self, index):
        time.sleep(self.sample_s)
        drawn = torch.Generator().manual_seed(index)
        return torch.randn(8, generator=drawn), torch.randn(1, generator=drawn)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 1))
    def forward(self, value):
        time.sleep(FORWARD_S if self.training else EVALUATION_S)
        return self.layers(value)

def tell(model, batches, updates, **more):
    weights = b"".join(one.detach().numpy().tobytes() for one in model.parameters())
    print(json.dumps({"batches": batches, "updates": updates,
                      "weights": hashlib.sha256(weights).hexdigest(), **more}))
"""

LIGHTNING = """
from task import *
import lightning.pytorch as pl
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.loggers import CSVLogger

class Counting(pl.Callback):
    batches = 0
    def on_train_batch_end(self, *_):
        self.batches += 1

class Lit(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = Net()
    def training_step(self, batch, index):
        time.sleep(BODY_S)
        loss = nn.functional.mse_loss(self.net(batch[0]), batch[1])
        self.log("loss", loss, on_epoch=True)
        return loss
    def validation_step(self, batch, index):
        self.log("validation", nn.functional.mse_loss(self.net(batch[0]), batch[1]))
    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), 1e-2)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]

counting, model = Counting(), Lit()
trainer = pl.Trainer(
    accelerator="cpu", max_epochs=EPOCHS, accumulate_grad_batches=2, val_check_interval=8,
    logger=CSVLogger("logs"), callbacks=[counting, LearningRateMonitor("step")],
    log_every_n_steps=3, enable_checkpointing=False, enable_progress_bar=False,
    enable_model_summary=False,
)
trainer.fit(
    model,
    DataLoader(Numbers(BATCHES, SAMPLE_S), BATCH, shuffle=True),
    DataLoader(Numbers(EVALUATION_BATCHES), BATCH),
)
tell(model, counting.batches, trainer.global_step,
     loss=trainer.callback_metrics["loss_epoch"].item().hex(),
     validation=trainer.callback_metrics["validation"].item().hex())
"""

TRANSFORMERS = """
from task import *
from transformers import (
    BertConfig, BertForSequenceClassification, PrinterCallback, Trainer, TrainerCallback,
    TrainingArguments,
)
ACCUMULATED, WORKERS = map(int, sys.argv[4:6])

class Words(Numbers):
    def __getitem__(self, index):
        time.sleep(self.sample_s)
        drawn = torch.Generator().manual_seed(index)
        return {"input_ids": torch.randint(0, 64, (6,), generator=drawn), "labels": index % 2}

class Slow(BertForSequenceClassification):
    def forward(self, input_ids=None, labels=None, **more):
        time.sleep(FORWARD_S if self.training else EVALUATION_S)
        return super().forward(input_ids=input_ids, labels=labels, **more)

class Counting(TrainerCallback):
    batches = 0
    def on_substep_end(self, *_, **__):
        self.batches += 1
    def on_step_end(self, *_, **__):
        self.batches += 1

counting = Counting()
model = Slow(BertConfig(
    vocab_size=64, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
    intermediate_size=32, max_position_embeddings=8,
))
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        output_dir="out", use_cpu=True, report_to=[], save_strategy="no", disable_tqdm=True,
        num_train_epochs=EPOCHS, per_device_train_batch_size=BATCH,
        per_device_eval_batch_size=BATCH, gradient_accumulation_steps=ACCUMULATED,
        dataloader_num_workers=WORKERS, eval_strategy="steps", eval_steps=8, logging_steps=3,
    ),
    train_dataset=Words(BATCHES * ACCUMULATED, SAMPLE_S),
    eval_dataset=Words(EVALUATION_BATCHES),
    callbacks=[counting],
)
trainer.remove_callback(PrinterCallback)  # it prints how long things took
done = trainer.train()
tell(model, counting.batches, done.global_step, loss=done.training_loss.hex())
"""

ACCELERATE = """
from task import *
from accelerate import Accelerator
WORKERS = int(sys.argv[4])

accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
net = Net()
optimizer = torch.optim.AdamW(net.parameters(), 1e-2)
net, optimizer, scheduler, train, test = accelerator.prepare(
    net, optimizer, torch.optim.lr_scheduler.StepLR(optimizer, 10),
    DataLoader(Numbers(BATCHES, SAMPLE_S), BATCH, shuffle=True, num_workers=WORKERS),
    DataLoader(Numbers(EVALUATION_BATCHES), BATCH),
)

def evaluate():
    net.eval()
    with torch.no_grad():
        total = sum(nn.functional.mse_loss(net(value), label).item() for value, label in test)
    net.train()
    return total.hex()

batches = updates = 0
for epoch in range(EPOCHS):
    for value, label in train:
        with accelerator.accumulate(net):
            time.sleep(BODY_S)
            loss = nn.functional.mse_loss(net(value), label)
            accelerator.backward(loss)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(net.parameters(), 1.0)
                updates += 1
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
        batches += 1
        if batches % 8 == 0:
            validation = evaluate()
tell(net, batches, updates, loss=loss.item().hex(), validation=validation)
"""
